"use strict";
(() => {
  const touch = matchMedia("(pointer: coarse)").matches;
  const config = {
    responsive: true,
    displaylogo: false,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], // and none that shares anything
    doubleClick: "reset",
  };

  const draw = async (box) => {
    const figure = JSON.parse(document.getElementById(`${box.id}-data`).textContent);
    // A finger that drags over a chart scrolls the page.
    figure.layout.dragmode = touch ? false : "zoom";
    const displayModeBar = "time" in box.dataset && !touch && "hover";
    return Plotly.newPlot(box, figure.data, figure.layout, { ...config, displayModeBar });
  };

  // Zooming into one chart of time shows the same span in the others.
  const link = (boxes) => {
    let busy = false;
    const follow = async (source, change) => {
      const axis = Object.keys(change).map((key) => key.match(/^(xaxis\d*)\./)).find(Boolean)?.[1];
      if (busy || !axis) return;
      busy = true;
      const { range, autorange } = source.layout[axis];
      const update = autorange ? { "xaxis.autorange": true } : { "xaxis.range": [...range] };
      await Promise.all(boxes.filter((box) => box !== source).map((box) => Plotly.relayout(box, update)));
      busy = false;
    };
    boxes.forEach((box) => box.on("plotly_relayout", (change) => follow(box, change)));
  };

  const sortBy = (head) => {
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const up = head.getAttribute("aria-sort") === "descending";
    const key = (row) => row.children[column].dataset.key;
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      return x - y || (Number.isNaN(x - y) ? x.localeCompare(y) : 0);
    };
    const rows = [...table.tBodies[0].rows].sort((a, b) => (up ? order(a, b) : order(b, a)));
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    table.tBodies[0].append(...rows);
  };

  document.querySelectorAll(".sortable thead th").forEach((head) => {
    head.tabIndex = 0;
    head.addEventListener("click", () => sortBy(head));
    head.addEventListener("keydown", (event) => event.key === "Enter" && sortBy(head));
  });

  const boxes = [...document.querySelectorAll(".plot")];
  window.drawn = Promise.all(boxes.map(draw)).then((plots) => {
    link(boxes.filter((box) => "time" in box.dataset));
    return plots.length;
  });
})();
