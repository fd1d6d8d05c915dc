/**
 * The page that `serveHeapMap` serves: it asks for two pictures as wide as the window, again and again, and replaces
 * them where they differ. Style and script are apart from it, so that the page may run nothing else.
 */

export const PAGE = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>Heap map</title>
<link rel="stylesheet" href="/page.css"><script src="/page.js" type="module"></script></head>
<body><p id="message" hidden></p><div id="timeline"></div><div id="map"></div></body></html>
`

export const PAGE_STYLE = `body { margin: 0; background: #ffffff; color: #1a1a1a; font: 14px system-ui, sans-serif }
svg { display: block; margin: 0 auto }
p { margin: 12px 24px }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #ececec } }
`

/** A hidden page asks for nothing. */
export const PAGE_SCRIPT = `const shown = {}
const message = document.getElementById('message')
async function draw(id) {
  const width = Math.max(320, Math.min(1400, document.documentElement.clientWidth))
  const response = await fetch('/' + id + '.svg?width=' + width)
  const text = await response.text()
  if (!response.ok) throw new Error(text)
  if (shown[id] === text) return
  shown[id] = text
  const picture = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement
  document.getElementById(id).replaceChildren(document.adoptNode(picture))
}
async function tick() {
  try {
    if (!document.hidden) for (const id of ['timeline', 'map']) await draw(id)
    message.hidden = true
  } catch (error) {
    message.textContent = error instanceof TypeError ? 'The program does not answer. It may have ended.' : error.message
    message.hidden = false
  }
  setTimeout(tick, 500)
}
tick()
`
