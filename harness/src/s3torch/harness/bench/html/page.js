"use strict";
// Everything is there without this script; it adds a switch between light and dark, and sorting.
const root = document.documentElement;
const theme = document.getElementById("theme");
const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
theme.hidden = false;
nameTheme();
theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });

const body = document.querySelector("tbody");
const headings = [...document.querySelectorAll("thead th")];
function compareCells(one, other, isNumber) {
  if (one === "" || other === "") return (one === "") - (other === "");
  return isNumber ? other - one : one.localeCompare(other);
}
headings.forEach((heading, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = heading.textContent;
  heading.replaceChildren(button);
  button.addEventListener("click", () => {
    const isNumber = heading.dataset.kind === "number";
    // The first click shows the largest number, or the first name, on top.
    const first = isNumber ? "descending" : "ascending", second = isNumber ? "ascending" : "descending";
    const order = heading.getAttribute("aria-sort") === first ? second : first;
    headings.forEach((each) => each.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", order);
    const sign = order === first ? 1 : -1;
    const key = (row) => row.cells[column].dataset.order;
    const rows = [...body.rows].sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      const isMissing = a === "" || b === "";  // goes last either way
      return compareCells(a, b, isNumber) * (isMissing ? 1 : sign);
    });
    body.append(...rows);
  });
});
