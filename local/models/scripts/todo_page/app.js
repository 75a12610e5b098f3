const KEY = "todos";
const list = document.querySelector("#list");
const text = document.querySelector("#text");
const filters = [...document.querySelectorAll("#filters button")];
const shown = { all: () => true, open: (todo) => !todo.done, done: (todo) => todo.done };

let todos = JSON.parse(localStorage.getItem(KEY) ?? "[]");
let filter = "all";

function change(next) {
  todos = next;
  localStorage.setItem(KEY, JSON.stringify(todos));
  render();
}

function row(todo) {
  const item = document.createElement("li");
  item.className = todo.done ? "done" : "";
  item.innerHTML = '<input type="checkbox"><label></label><button aria-label="Delete">✕</button>';
  const [box, label, remove] = item.children;
  box.id = label.htmlFor = `todo-${todo.id}`;
  box.checked = todo.done;
  label.textContent = todo.text;
  box.onchange = () => change(todos.map((each) => (each === todo ? { ...todo, done: box.checked } : each)));
  remove.onclick = () => change(todos.filter((each) => each !== todo));
  return item;
}

function nothing() {
  const item = document.createElement("li");
  item.className = "empty";
  item.textContent = filter === "done" ? "Nothing done yet" : "All clear";
  return item;
}

function render() {
  const rows = todos.filter(shown[filter]).map(row);
  list.replaceChildren(...(rows.length ? rows : [nothing()]));
  const left = todos.filter((todo) => !todo.done).length;
  document.querySelector("#left").textContent = `${left} left`;
  for (const button of filters) button.ariaPressed = String(button.dataset.filter === filter);
}

document.querySelector("#new").onsubmit = (event) => {
  event.preventDefault();
  const said = text.value.trim();
  if (said) change([...todos, { id: Date.now(), text: said, done: false }]);
  text.value = "";
};

for (const button of filters) {
  button.onclick = () => {
    filter = button.dataset.filter;
    render();
  };
}

document.querySelector("#date").textContent = new Date().toLocaleDateString("en", { dateStyle: "full" });
render();
