// The progress of one job. Reports that it has ended, once; what comes of it is the server's to draw.

const memory = new WeakMap() // one entry per mount
const LOOK_MS = 40 // between two looks whether a script runs
const IDLE_LOOKS = 4

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".watch")
  const mine = memory.get(parentElement) ?? { job: null, stop: () => {}, waiting: 0 }
  memory.set(parentElement, mine)
  mine.tell = () => setStateValue("ended", `${data.job} ${Date.now()}`) // a job that is retried ends twice
  root.classList.toggle("slim", data.slim)
  if (mine.job !== data.job) {
    mine.stop()
    clearTimeout(mine.waiting) // what it would tell is now said of this job
    mine.job = data.job
    root.replaceChildren()
    mine.stop = data.after_ms ? later(mine, data.after_ms) : follow(root, mine, data)
  }
  return () => {
    mine.stop()
    clearTimeout(mine.waiting)
    memory.delete(parentElement)
  }
}

// Tells the server when no script has run for a moment: told while the next page is being drawn, it would leave that
// page empty. Between a click that leads to another page and its drawing there are a few idle milliseconds.
function end(mine, idle = 0) {
  const app = document.querySelector("[data-testid=stApp]")
  const isIdle = !app || app.dataset.testScriptState === "notRunning"
  if (isIdle && idle === IDLE_LOOKS) mine.tell()
  else mine.waiting = setTimeout(() => end(mine, isIdle ? idle + 1 : 0), LOOK_MS)
}

function later(mine, delay) {
  const timer = setTimeout(() => end(mine), delay)
  return () => clearTimeout(timer)
}

function follow(root, mine, data) {
  document.dispatchEvent(new CustomEvent(WORK))
  return asking(data.address, (jobs) => {
    const job = jobs.find((each) => String(each.id) === data.job)
    if (!job || !job.is_active) {
      end(mine)
      return false
    }
    draw(root, data, job)
    return true
  })
}

function draw(root, data, job) {
  if (!root.firstElementChild) {
    const track = document.createElement("div")
    track.className = "track"
    track.append(document.createElement("i"))
    root.append(document.createElement("p"), ...(data.slim ? [] : [track]))
  }
  const share = job.share >= 0 ? `${Math.floor(job.share * 100)}%` : ""
  root.firstElementChild.textContent = data.slim
    ? [data.words, share || job.note].filter(Boolean).join(" ")
    : [job.note, share].filter(Boolean).join(" · ")
  const bar = root.querySelector("i")
  if (bar) bar.style.width = `${Math.max(job.share, 0) * 100}%`
}
