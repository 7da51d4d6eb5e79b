// Puts a "Show" button into each password field. The forms work without it; nothing else of the portal is a script.
"use strict";

for (const frame of document.querySelectorAll(".with-button")) {
  const input = frame.querySelector("input");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "reveal";
  button.textContent = "Show";
  button.setAttribute("aria-controls", input.id);
  button.setAttribute("aria-label", "Show password");
  button.addEventListener("click", () => {
    const hidden = input.type === "password";
    input.type = hidden ? "text" : "password";
    button.textContent = hidden ? "Hide" : "Show";
    button.setAttribute("aria-label", hidden ? "Hide password" : "Show password");
    input.focus();
  });
  // A browser may remember what was typed into a text field, so it is a password again when it leaves.
  input.form.addEventListener("submit", () => { input.type = "password"; });
  frame.append(button);
  frame.classList.add("is-live");
}
