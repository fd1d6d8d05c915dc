import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ANY } from '../../lib/base/protections.js'
import { type OsMapping, parseMaps } from '../../lib/os/maps_line.js'

function line(permissions: string, rest = '00000000 00:00 0 '): OsMapping {
  return parseMaps(`7f0000000000-7f0000400000 ${permissions} ${rest}`)[0]!
}

test('a line of maps is taken apart', () => {
  assert.equal(
    parseMaps('7f0000000000-7f0000400000 rw-p 00001000 08:01 1234       /usr/lib/a b.so (deleted)\n'),
    [
      {
        start: 0x7f0000000000,
        limit: 0x7f0000400000,
        prot: 2,
        permissions: 'rw-p',
        anonymous: false,
        name: '/usr/lib/a b.so (deleted)',
      },
    ],
  )
})

test('permissions become protection codes, and others are not known', () => {
  for (const [permissions, prot] of [
    ['---p', 0],
    ['r--p', 1],
    ['rw-p', 2],
    ['r-xp', 3],
    ['rwxp', 4],
    ['-w-p', ANY],
    ['--xp', ANY],
    ['-wxp', ANY],
    ['rw-s', 2],
  ] as const) {
    assert.is(line(permissions).prot, prot, permissions)
    assert.is(line(permissions).permissions, permissions)
  }
})

test('anonymous is private, without a file, and not the kernel’s own', () => {
  for (const [permissions, rest, anonymous] of [
    ['rw-p', '00000000 00:00 0 ', true],
    ['rw-p', '00000000 00:00 0', true],
    ['rw-p', '00000000 00:00 0                          [heap]', true],
    ['rw-p', '00000000 00:00 0                          [anon:mmapper:space:nursery]', true],
    ['rw-s', '00000000 00:01 77                         /dev/zero (deleted)', false],
    ['rw-s', '00000000 00:00 0 ', false],
    ['r--p', '00000000 08:01 1234                       /usr/bin/node', false],
    ['r-xp', '00000000 00:00 0                          [vdso]', false],
    ['r--p', '00000000 00:00 0                          [vvar]', false],
  ] as const) {
    assert.is(line(permissions, rest).anonymous, anonymous, rest)
  }
  assert.is(line('rw-p', '00000000 00:00 0     [anon:a b]').name, '[anon:a b]')
})

test('what is no line of maps is passed over', () => {
  assert.equal(parseMaps(''), [])
  assert.equal(parseMaps('\n\nnonsense\nVmFlags: rd wr\n'), [])
})

test('what is cut off anywhere before its inode is no line', () => {
  const whole = '7f0000000000-7f0000400000 rw-p 00000000 08:01 1234'
  assert.is(parseMaps(whole).length, 1)
  for (let length = 0; length <= whole.length - 4; length++) {
    assert.equal(parseMaps(whole.slice(0, length)), [], whole.slice(0, length))
  }
})

test('an inode that only begins with 0, or ends so, is one', () => {
  for (const inode of ['01', '10', '00']) assert.is(line('rw-p', `00000000 08:01 ${inode} `).anonymous, false)
})

test.run()
