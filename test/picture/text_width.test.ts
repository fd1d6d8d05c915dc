import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  AFTER_COMMA,
  AT_DOT,
  AT_SPACE,
  breakLines,
  cutText,
  FontSize,
  textWidth,
} from '../../lib/picture/text_width.js'

test('cut text is as wide as allowed or narrower, and says that it is cut', () => {
  for (const text of ['mmapper:space:nursery', 'ÄÖÜäöü😀😀😀😀', 'x']) {
    for (const width of [10, 40, 80, 1000]) {
      const cut = cutText(text, width, FontSize.Small)
      if (cut === text) continue
      assert.ok(textWidth(cut, FontSize.Small) <= Math.max(width, FontSize.Small), `${cut} in ${width}`)
      assert.ok(text.startsWith(cut.slice(0, -1)) && cut.endsWith('…'), cut)
    }
  }
})

test('lines are broken where it is allowed, and commas stay at their ends', () => {
  const fits = (line: string): boolean => line.length <= 12
  const table: [string, typeof AFTER_COMMA, string[]][] = [
    ['a, b, c', AFTER_COMMA, ['a, b, c']],
    ['4 MiB mapped, 1 TiB', AFTER_COMMA, ['4 MiB mapped,', '1 TiB']],
    ['first · second · third', AT_DOT, ['first', 'second', 'third']],
    ['about 1024 MiB of 50 % left', AT_SPACE, ['about', '1024 MiB of', '50 % left']],
    ['', AT_SPACE, ['']],
  ]
  for (const [text, at, lines] of table) assert.equal(breakLines(text, at, fits), lines)
})

test.run()
