"use strict";
// Text from models reaches the page through textContent only. A case's body is built when it is first opened, and
// cases appear a page at a time, so that thousands of them stay quick.
(() => {
  const PAGE = 50;
  const byId = (id) => document.getElementById(id);
  const make = (tag, className, ...children) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children);
    return node;
  };

  const theme = byId("theme");
  const systemIsDark = window.matchMedia("(prefers-color-scheme: dark)");
  const stored = (value) => {
    // A browser may forbid storage to files.
    try {
      if (value) localStorage.setItem("fcdistill-theme", value);
      return localStorage.getItem("fcdistill-theme");
    } catch {
      return null;
    }
  };
  const shownTheme = () => document.documentElement.dataset.theme || (systemIsDark.matches ? "dark" : "light");
  const nameTheme = () => { theme.textContent = shownTheme() === "dark" ? "Light theme" : "Dark theme"; };
  const kept = stored();
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = shownTheme() === "dark" ? "light" : "dark";
    stored(shownTheme());
    nameTheme();
  });
  systemIsDark.addEventListener("change", nameTheme);
  nameTheme();

  const cases = JSON.parse(byId("data").textContent);
  const form = byId("filters");
  if (!form) return;
  const search = byId("search");
  const list = byId("list");
  const more = byId("more");
  const words = (code) => code.replaceAll("_", " ");
  const valuesOf = {
    error: (item) => [...new Set(item.errors.map((error) => error.code))],
    tool: (item) => item.tools,
    category: (item) => [item.category],
  };
  const kinds = Object.keys(valuesOf);

  for (const kind of kinds) {
    const counts = new Map();
    for (const item of cases) for (const value of valuesOf[kind](item)) counts.set(value, (counts.get(value) || 0) + 1);
    for (const value of [...counts.keys()].sort()) {
      const option = make("option", "", `${kind === "error" ? words(value) : value} (${counts.get(value)})`);
      option.value = value;
      byId(kind).append(option);
    }
  }

  const haystacks = cases.map((item) => [
    item.id, item.output, item.wanted, ...item.messages.map((message) => message.text),
    ...item.errors.flatMap((error) => [error.code, error.path, error.detail]),
    ...item.calls.flatMap((call) => [
      call.expected, call.got, ...call.arguments.flatMap((each) => [each.name, each.expected, each.got]),
    ]),
  ].join("\n").toLowerCase());

  const diffTable = (call) => {
    const side = (name, className, absent) =>
      name === null ? make("th", className, make("span", "none", absent)) : make("th", className, make("code", "", name));
    const head = make("tr", call.mark === "same" ? "" : "bad", make("th", "", "tool"),
      side(call.expected, "left", "no such call"), side(call.got, "right", "not called"));
    const titles = make("tr", "", make("th", "side"), make("th", "side", "Expected"), make("th", "side", "Got"));
    for (const cell of titles.children) cell.scope = "col";
    const table = make("table", "diff", make("thead", "", titles, head));
    const body = make("tbody");
    for (const each of call.arguments) {
      const value = (text) => (text === null ? make("span", "none", "left out") : text);
      const wrong = each.mark !== "same" && each.mark !== "accepted";
      const name = make("th", "", make("code", "", each.name));
      name.scope = "row";
      if (each.mark !== "same") name.append(make("span", "why", each.mark));
      if (each.rule) name.append(make("span", "why", each.rule));
      body.append(make("tr", wrong ? "bad" : each.mark, name,
        make("td", "left", value(each.expected)), make("td", "right", value(each.got))));
    }
    table.append(body);
    return table;
  };

  const bodyOf = (item) => {
    const body = make("div", "body");
    const part = (heading, ...children) => body.append(make("h3", "", heading), ...children);
    const problems = make("ul", "problems");
    for (const error of item.errors) {
      const line = make("li", "", make("span", "tag", words(error.code)));
      if (error.path) line.append(" ", make("code", "", error.path));
      line.append(" ", error.detail);
      problems.append(line);
    }
    part(item.errors.length === 1 ? "Error" : `Errors (${item.errors.length})`, problems);
    part("Request", ...item.messages.map((message) => make("div", "turn", make("b", "", message.role), message.text)));
    if (item.wanted) part("Expected", make("p", "", item.wanted));
    if (item.calls.length) {
      const others = item.alternatives ? `, against the closest of ${item.alternatives + 1} acceptable answers` : "";
      part(`Calls${others}`, ...item.calls.map(diffTable));
    }
    part("Raw output", make("pre", "", item.output || "(empty)"));
    body.append(make("p", "facts", [`finish reason ${words(item.finish_reason)}`, item.figures].filter(Boolean).join(", ")));
    return body;
  };

  const cardOf = (item) => {
    const asked = item.messages.findLast((message) => message.role === "user") || item.messages[0];
    const tags = make("span", "tags", make("span", "tag", words(item.primary)));
    if (item.errors.length > 1) tags.append(make("span", "soft", ` +${item.errors.length - 1}`));
    if (item.critical) tags.append(make("span", "tag critical", "critical"));
    const facts = [item.id, words(item.category), item.tools.join(", ")].filter(Boolean).join(" · ");
    const card = make("details", "case",
      make("summary", "", make("span", "request", asked.text), tags, make("span", "facts", facts)));
    card.dataset.id = item.id;
    card.addEventListener("toggle", () => {
      if (!card.open) return;
      if (card.children.length === 1) card.append(bodyOf(item));
      history.replaceState(null, "", `#case=${encodeURIComponent(item.id)}`);
    });
    return card;
  };

  let found = [];
  let shown = 0;
  const grow = () => {
    const next = found.slice(shown, shown + PAGE);
    list.append(...next.map(cardOf));
    shown += next.length;
    more.hidden = shown === found.length;
    more.textContent = `Show ${Math.min(PAGE, found.length - shown)} more`;
    byId("status").textContent = found.length
      ? `${found.length} of ${cases.length} wrong cases match` + (shown < found.length ? `, ${shown} shown` : "")
      : "No wrong case matches; change the search or clear the filters.";
  };
  const filter = () => {
    const terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = kinds.map((kind) => [kind, byId(kind).value]).filter(([, value]) => value);
    found = cases.filter((item, index) =>
      wanted.every(([kind, value]) => valuesOf[kind](item).includes(value)) &&
      terms.every((term) => haystacks[index].includes(term)));
    list.replaceChildren();
    shown = 0;
    grow();
  };

  search.addEventListener("input", filter);
  for (const kind of kinds) byId(kind).addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  more.addEventListener("click", () => {
    const first = list.children.length;
    grow();
    list.children[first].firstChild.focus();
  });
  for (const button of document.querySelectorAll("[data-filter]")) {
    const select = byId(button.dataset.filter);
    const value = button.dataset.value;
    button.disabled = ![...select.options].some((option) => option.value === value);  // no case of it is wrong
    button.addEventListener("click", () => {
      form.reset();
      select.value = value;
      byId("failures").scrollIntoView();
      select.focus({ preventScroll: true });
    });
  }
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      search.focus();
    }
  });

  form.hidden = false;
  filter();
  const linked = /^#case=(.+)$/.exec(location.hash);
  if (linked) {
    const id = decodeURIComponent(linked[1]);
    const index = cases.findIndex((item) => item.id === id);
    if (index >= 0) {
      while (shown <= index) grow();
      list.children[index].open = true;
      list.children[index].scrollIntoView();
    }
  }
})();
