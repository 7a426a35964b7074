// Sorts and filters the ledger. Without JavaScript the whole ledger is shown, in order.
(() => {
  const table = document.querySelector("#ledger table");
  if (!table) return;
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const verdict = document.querySelector("#verdict"), words = document.querySelector("#words");
  const status = document.querySelector("#shown");
  const value = (row, i) => row.cells[i].dataset.key ?? row.cells[i].textContent.trim();
  const compare = (a, b) => a.localeCompare(b, "en", { numeric: true });
  heads.forEach((head, i) => head.querySelector("button")?.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    rows.sort((a, b) => (down ? -1 : 1) * compare(value(a, i), value(b, i)));
    body.append(...rows);
  }));
  const filter = () => {
    const wanted = words.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const fits = (!verdict.value || row.dataset.verdict === verdict.value)
        && row.textContent.toLowerCase().includes(wanted);
      row.hidden = !fits;
      count += fits;
    }
    status.textContent = `${count} of ${rows.length} claims shown`;
  };
  verdict.addEventListener("change", filter);
  words.addEventListener("input", filter);
  document.querySelector(".tools").hidden = false;
  filter();
})();
