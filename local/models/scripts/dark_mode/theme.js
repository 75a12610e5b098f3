render();

const theme = document.querySelector("#theme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)").matches;

function paint(name) {
  document.documentElement.dataset.theme = name;
  theme.textContent = name === "dark" ? "☀" : "☾";
}

theme.onclick = () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", next);
  paint(next);
};

paint(localStorage.getItem("theme") ?? (prefersDark ? "dark" : "light"));
