"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // planes: one list of addresses a plane - the raw picture, then the overlay of each further tile
  const panels = all(".panel").map((panel) => {
    const script = panel.querySelector("script");
    const { planes, numbers } = script ? JSON.parse(script.textContent) : { planes: [], numbers: [0] };
    const slider = panel.querySelector("input[type=range]");
    const show = (index) => {
      if (!slider) return;
      panel.querySelector(".tiles").style.setProperty("--raw", `url(${planes[index][0]})`);
      all(".overlay", panel).forEach((overlay, number) => { overlay.src = planes[index][number + 1]; });
      slider.value = index;
      panel.querySelector("output").textContent = numbers[index];
    };
    const unmark = () => all(".here", panel).forEach((mark) => { mark.hidden = true; });
    if (slider) slider.addEventListener("input", () => { unmark(); show(Number(slider.value)); });
    return { panel, numbers, show, unmark };
  });

  const overlays = document.getElementById("overlays");
  if (overlays) overlays.addEventListener("change", () => document.body.classList.toggle("bare", !overlays.checked));

  const dialog = document.getElementById("enlarged");
  all(".tile").forEach((tile) => tile.addEventListener("click", () => {
    const stack = dialog.querySelector(".stack");
    const tiles = tile.closest(".tiles");
    stack.replaceChildren(...[...tile.children].map((child) => child.cloneNode(true)));
    for (const name of ["--raw", "--shape", "--rendering"]) stack.style.setProperty(name, tiles.style.getPropertyValue(name));
    dialog.showModal();
  }));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  all(".go").forEach((link) => link.addEventListener("click", () => {
    const found = panels.find((each) => `#${each.panel.id}` === link.getAttribute("href"));
    panels.forEach((each) => each.unmark());
    const z = Number(link.dataset.z);
    const near = found.numbers.reduce((best, value, index, values) => Math.abs(value - z) < Math.abs(values[best] - z) ? index : best, 0);
    found.show(near);
    all(".here", found.panel).forEach((mark) => {
      mark.hidden = false;
      mark.style.left = `${link.dataset.x}%`;
      mark.style.top = `${link.dataset.y}%`;
    });
  }));

  all("table.sortable").forEach((table) => all("thead th:not([data-plain])", table).forEach((head) => {
    const column = [...head.parentNode.children].indexOf(head);
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      all("th[aria-sort]", table).forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
      const order = (a, b) => {
        const [x, y] = [Number(a), Number(b)];
        return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
      };
      const body = table.tBodies[0];
      const rows = [...body.rows].sort((a, b) => (down ? -1 : 1) * order(value(a), value(b)));
      body.append(...rows);
    });
  }));
})();
