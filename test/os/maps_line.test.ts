import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ANY } from '../../lib/base/protections.js'
import { MapsLine, type OsMapping, parseMaps } from '../../lib/os/maps_line.js'

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

const bytesOf = (text: string): Uint8Array => Uint8Array.from(text, character => character.charCodeAt(0))
const REST = ' rw-p 00000000 00:00 0 '

test('addresses have the digits of hexadecimal numbers, all of them and no others', () => {
  const line = new MapsLine(bytesOf(`9abcdef0-f0fedcba9${REST}`))
  assert.ok(line.read(0, 18 + REST.length))
  assert.equal([line.start, line.limit], [0x9abcdef0, 0xf0fedcba9])
  for (const wrong of [':', 'g', 'Z', '`', '/', '@']) {
    const text = `1${wrong}00-2000${REST}`
    assert.not.ok(new MapsLine(bytesOf(text)).read(0, text.length), wrong)
  }
})

test('what lies behind the end of a line does not belong to it', () => {
  const text = `1000-2000${REST}`
  const line = new MapsLine(bytesOf(text))
  for (let end = 0; end < text.length - 2; end++) assert.not.ok(line.read(0, end), String(end))
  assert.ok(line.read(0, text.length))
})

test('a file of one digit is a file', () => {
  for (const [inode, anonymous] of [
    ['0', true],
    ['7', false],
    ['10', false],
  ] as const) {
    const text = `1000-2000 rw-p 00000000 00:00 ${inode} `
    const line = new MapsLine(bytesOf(text))
    assert.ok(line.read(0, text.length))
    assert.is(line.anonymous, anonymous, inode)
  }
})

test.run()
