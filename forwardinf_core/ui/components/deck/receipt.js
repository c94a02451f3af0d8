// Tells the deck what the server kept and how far the review is, without sending the deck its rows again.

export default function ({ data }) {
  window["forwardinf-receipt"] = data
  window.dispatchEvent(new CustomEvent("forwardinf-receipt", { detail: data }))
}
