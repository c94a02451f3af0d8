// Asks the web server for a project's jobs, again and again while there is a reason to, and never otherwise.

const EVERY_MS = 600
const MISSED_MS = 3000 // after the server did not answer
const WORK = "forwardinf-work" // heard by the panel: there may be new work

// `again(jobs)` draws what was found and says whether to ask again. Returns a function that stops the asking.
function asking(address, again) {
  let timer = 0
  let stopped = false
  const look = async () => {
    let wait = EVERY_MS
    try {
      const reply = await fetch(address)
      if (stopped) return
      if (reply.ok) {
        if (!again(await reply.json())) return
      } else wait = MISSED_MS
    } catch {
      wait = MISSED_MS // the server is being started again: the work goes on meanwhile
    }
    if (!stopped) timer = setTimeout(look, wait)
  }
  look()
  return () => {
    stopped = true
    clearTimeout(timer)
  }
}
