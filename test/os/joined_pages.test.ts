import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { JoinedPages } from '../../lib/os/joined_pages.js'

test('neighbours are joined until they are visited, and bytes are those visited', () => {
  const visited: number[][] = []
  const pages = new JoinedPages((start, bytes) => visited.push([start, bytes]))
  pages.end()
  pages.add(0, 2)
  pages.add(2, 4)
  assert.equal([visited.splice(0), pages.bytes], [[], 0])
  pages.add(6, 8)
  assert.equal([visited.splice(0), pages.bytes], [[[0, 4]], 4])
  pages.end()
  pages.end()
  assert.equal([visited.splice(0), pages.bytes], [[[6, 2]], 6])
  pages.add(8, 9)
  pages.end()
  assert.equal([visited, pages.bytes], [[[8, 1]], 7])
})

test.run()
