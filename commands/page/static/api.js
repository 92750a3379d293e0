// Questions to the server of this page. An error of its is one line, which the view shows.

async function answer(response) {
  const type = response.headers.get("Content-Type") ?? "";
  if (!type.startsWith("application/json")) throw new Error((await response.text()).trim() || `status ${response.status}`);
  const found = await response.json();
  if (!response.ok) throw new Error(found.error);
  return found;
}

async function ask(address, options) {
  let response;
  try {
    response = await fetch(address, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("fox1 inspect no longer runs; start it again and open the address that it prints");
  }
  return answer(response);
}

export function get(path, values = {}, options = {}) {
  const query = new URLSearchParams(values).toString();
  return ask(query ? `${path}?${query}` : path, options);
}

export function post(path, value, options = {}) {
  return ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value), ...options });
}

let timer = 0;
/** Say something at the bottom of the page, for a while. */
export function toast(text) {
  const place = document.getElementById("toast");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(timer);
  timer = setTimeout(() => place.classList.remove("shown"), 5000);
}

/** Copy a text, or say what to copy where the browser does not allow it. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.");
  } catch {
    toast(`Copy this: ${text}`);
  }
}
