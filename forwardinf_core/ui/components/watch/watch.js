// The progress of one job. Reports that it has ended, once; what comes of it is the server's to draw.

const memory = new WeakMap() // one entry per mount

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".watch")
  const mine = memory.get(parentElement) ?? { job: null, stop: () => {} }
  memory.set(parentElement, mine)
  mine.tell = () => setStateValue("ended", `${data.job} ${Date.now()}`) // a job that is retried ends twice
  root.classList.toggle("slim", data.slim)
  if (mine.job !== data.job) {
    mine.stop()
    mine.job = data.job
    root.replaceChildren()
    mine.stop = data.after_ms ? later(mine, data.after_ms) : follow(root, mine, data)
  }
  return () => {
    mine.stop()
    memory.delete(parentElement)
  }
}

function later(mine, delay) {
  const timer = setTimeout(() => mine.tell(), delay)
  return () => clearTimeout(timer)
}

function follow(root, mine, data) {
  document.dispatchEvent(new CustomEvent(WORK))
  return asking(data.address, (jobs) => {
    const job = jobs.find((each) => String(each.id) === data.job)
    if (!job || !job.is_active) {
      mine.tell()
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
