// Follows the order book: new rows appear by themselves. The browser reconnects when an
// instance stops, and the server resumes after the last row seen.
"use strict";

const table = document.getElementById("orders");
const live = document.getElementById("live");
const feed = new EventSource("/api/feed?after=" + table.dataset.last);

feed.onopen = () => { live.textContent = "live"; };
feed.onerror = () => { live.textContent = "reconnecting"; };
feed.addEventListener("order", (event) => {
  const o = JSON.parse(event.data);
  const row = document.createElement("tr");
  row.className = "fresh";
  const at = o.taken_at.slice(0, 19).replace("T", " ");
  for (const text of [o.id, o.customer, o.sku, o.quantity, o.taken_by, at]) {
    row.appendChild(document.createElement("td")).textContent = text;
  }
  table.tBodies[0].prepend(row);
});
