// The jobs panel. Drawings are reused by job, so that an open log stays open. Actions go to the web server directly;
// only opening a result is the screen's affair.

const memory = new WeakMap() // one entry per mounted panel

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".jobs")
  const panel = memory.get(parentElement) ?? mount(root)
  memory.set(parentElement, panel)
  panel.address = data.address
  panel.open = (job) => {
    panel.turn += 1
    setStateValue("open", { turn: panel.turn, page: job.page, link: job.link })
  }
  panel.show(data.jobs)
  if (data.jobs.some((job) => job.is_active)) panel.follow()
  return () => {
    panel.stop()
    memory.delete(parentElement)
  }
}

function mount(root) {
  const active = piece("div", "list")
  const stopped = piece("div", "list")
  const ended = piece("details", "ended")
  const summary = piece("summary", "")
  const list = piece("div", "list")
  const nothing = piece("p", "quiet", "Long work shows here: how far it is, and how to stop it.")
  const fault = piece("p", "trouble")
  fault.setAttribute("role", "alert")
  ended.append(summary, list)
  root.append(piece("h2", "", "Work"), nothing, fault, active, stopped, ended)

  const cards = new Map()
  const panel = { turn: Date.now(), address: "", open: () => {}, halt: null }

  panel.show = (jobs) => {
    for (const [id, card] of cards) {
      if (jobs.some((job) => job.id === id)) continue
      card.root.remove()
      cards.delete(id)
    }
    const places = new Map([[active, []], [stopped, []], [list, []]])
    for (const job of jobs) {
      const card = cards.get(job.id) ?? makeCard(panel)
      cards.set(job.id, card)
      fill(card, job)
      const isStopped = job.state === "failed" || job.state === "paused"
      places.get(job.is_active ? active : isStopped ? stopped : list).push(card.root)
    }
    for (const [place, wanted] of places) {
      const same = wanted.length === place.children.length && wanted.every((each, at) => each === place.children[at])
      if (!same) place.replaceChildren(...wanted)
    }
    nothing.hidden = jobs.length > 0
    ended.hidden = list.children.length === 0
    summary.textContent = `Finished (${list.children.length})`
  }
  panel.follow = () => {
    panel.halt?.()
    panel.halt = asking(panel.address, (jobs) => {
      panel.show(jobs)
      return jobs.some((job) => job.is_active)
    })
  }
  panel.act = async (job, action) => {
    fault.textContent = ""
    try {
      const reply = await fetch(`${panel.address}/${job.id}/${action}`, { method: "POST" })
      const said = await reply.json()
      if (reply.ok) panel.show(said)
      else fault.textContent = said.error
    } catch {
      fault.textContent = "The app did not answer. Please try again."
    }
    panel.follow()
  }
  const onWork = () => panel.follow()
  const onSight = () => document.visibilityState === "visible" && panel.follow()
  document.addEventListener(WORK, onWork)
  document.addEventListener("visibilitychange", onSight)
  panel.stop = () => {
    panel.halt?.()
    document.removeEventListener(WORK, onWork)
    document.removeEventListener("visibilitychange", onSight)
  }
  return panel
}

function makeCard(panel) {
  const card = { job: null, root: piece("article", "job"), title: piece("b", ""), subject: piece("p", "quiet") }
  card.note = piece("p", "note")
  card.trouble = piece("p", "trouble")
  card.track = piece("div", "track")
  card.bar = piece("i", "")
  card.track.append(card.bar)
  card.cancel = piece("button", "", "Cancel")
  card.cancel.title = "Stop it; what is finished is kept, and it can go on later."
  card.cancel.onclick = () => {
    card.cancel.disabled = true
    panel.act(card.job, "cancel")
  }
  card.retry = piece("button", "", "Retry")
  card.retry.title = "Goes on from its last finished piece."
  card.retry.onclick = () => panel.act(card.job, "retry")
  card.open = piece("a", "", "Open")
  card.open.onclick = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return // a tab of its own: the browser's affair
    event.preventDefault()
    panel.open(card.job)
  }
  card.log = piece("details", "")
  card.lines = piece("pre", "")
  card.log.append(piece("summary", "", "Log"), card.lines)
  const top = piece("div", "top")
  top.append(piece("span", "dot"), card.title)
  const actions = piece("div", "actions")
  actions.append(card.open, card.retry, card.cancel)
  card.root.append(top, card.subject, card.track, card.note, card.trouble, actions, card.log)
  return card
}

function fill(card, job) {
  card.job = job
  card.root.dataset.state = job.state
  card.title.textContent = job.title
  write(card.subject, job.subject)
  const share = job.state === "running" && job.share >= 0
  card.track.hidden = !share
  card.bar.style.width = `${Math.max(job.share, 0) * 100}%`
  write(card.note, share ? `${Math.floor(job.share * 100)}% · ${job.note}` : job.note)
  write(card.trouble, job.trouble)
  card.cancel.hidden = !job.can_cancel
  card.cancel.disabled = false
  card.retry.hidden = !job.can_retry
  card.open.hidden = !job.page
  if (job.page) card.open.href = `/${job.page}?${new URLSearchParams(job.link)}`
  card.log.hidden = !job.log.length
  const log = job.log.join("\n")
  if (card.lines.textContent !== log) card.lines.textContent = log
}

function write(place, text) {
  place.hidden = !text
  if (place.textContent !== text) place.textContent = text
}

function piece(name, className, text = "") {
  const made = document.createElement(name)
  made.className = className
  made.textContent = text
  return made
}
