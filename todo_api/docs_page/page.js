"use strict";

const form = document.getElementById("token-form");
const field = document.getElementById("token");
const use = document.getElementById("use");
const forget = document.getElementById("forget");
const hint = document.getElementById("hint");
const caller = document.getElementById("caller");

const nothing = () => () => null;
const ui = SwaggerUIBundle({
  url: "openapi.json",
  domNode: document.getElementById("viewer"),
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  validatorUrl: null,
  // The token field above is the one place to give a token.
  plugins: [{ wrapComponents: { authorizeBtn: nothing, authorizeOperationBtn: nothing } }],
  onComplete: () => {
    use.disabled = false;
  },
});

function scheme() {
  return ui.specSelectors.specJson().getIn(["components", "securitySchemes"]).keySeq().first();
}

// What the token says of itself; the service alone judges whether it is true.
function describe(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    const { sub, exp } = JSON.parse(new TextDecoder().decode(bytes));
    const until = new Date(exp * 1000);
    return until > new Date() ? `Calling as ${sub} until ${until.toLocaleString()}.` : `This token of ${sub} has expired.`;
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
  ui.preauthorizeApiKey(scheme(), token);
  say(describe(token));
});

forget.addEventListener("click", () => {
  ui.authActions.logout([scheme()]);
  say("");
  field.focus();
});

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
