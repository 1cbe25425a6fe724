"use strict";
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const listing = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(listing.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(listing);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}
