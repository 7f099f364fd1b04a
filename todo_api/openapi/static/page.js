"use strict";

const SCHEME = "token"; // as openapi.json calls it

const form = document.getElementById("token-form");
const field = document.getElementById("token");
const use = document.getElementById("use");
const forget = document.getElementById("forget");
const hint = document.getElementById("hint");
const caller = document.getElementById("caller");

// Show parameter examples in the description only: Swagger UI would send them (a stale If-Match, an unknown id, a used key).
function unfilled(name, value) {
  if (!value?.in || value.example === undefined) return value;
  const { example, ...parameter } = value;
  return { ...parameter, description: `${parameter.description} For example \`${example}\`.` };
}

// Fold the example and the headers of errors and 304: they are almost the same everywhere.
const folded = (Response, { React, getComponent }) => (props) => {
  const [open, setOpen] = React.useState(props.code < "300");
  if (open) return React.createElement(Response, props);
  const cell = (name, ...children) => React.createElement("td", { className: `response-col_${name}` }, ...children);
  const text = React.createElement(getComponent("Markdown", true), { source: props.response.get("description") });
  const more = { className: "more", type: "button", onClick: () => setOpen(true) };
  const button = React.createElement("button", more, "Example and headers");
  return React.createElement("tr", { className: "response" }, cell("status", props.code), cell("description", text, button));
};

const nothing = () => () => null;
const viewer = {
  // Replaced by the token field above.
  wrapComponents: { authorizeBtn: nothing, authorizeOperationBtn: nothing, response: folded },
  statePlugins: {
    spec: {
      wrapActions: {
        updateJsonSpec: (update) => (document) => update(JSON.parse(JSON.stringify(document), unfilled)),
      },
    },
  },
};

const ui = SwaggerUIBundle({
  url: "openapi.json",
  domNode: document.getElementById("viewer"),
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  validatorUrl: null,
  plugins: [viewer],
  onComplete: () => {
    use.disabled = false;
  },
});

// Read the claims without verifying them: that is up to the service.
function describe(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    const { sub, exp } = JSON.parse(new TextDecoder().decode(bytes));
    const missing = !sub || typeof sub !== "string" ? "sub" : typeof exp !== "number" ? "exp" : "";
    if (missing) return `This token has no ${missing}, so it will be rejected.`;
    if (exp * 1000 <= Date.now()) return `This token of ${sub} has expired.`;
    const until = new Date(exp * 1000);
    return Number.isNaN(until.getTime()) ? `Calling as ${sub}.` : `Calling as ${sub} until ${until.toLocaleString()}.`;
  } catch {
    return "This does not look like a token, but it will be sent.";
  }
}

function say(text) {
  caller.textContent = text;
  hint.hidden = text !== "";
  forget.hidden = text === "";
  field.value = "";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const token = field.value.trim().replace(/^Bearer\s+/i, "");
  ui.preauthorizeApiKey(SCHEME, token);
  say(describe(token));
});

forget.addEventListener("click", () => {
  ui.authActions.logout([SCHEME]);
  say("");
  field.focus();
});

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
