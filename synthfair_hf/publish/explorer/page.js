// The chosen file, sent with the question itself: the server has no place for uploads.
window.synthfair ??= (() => {
  const chosen = () => document.getElementById("upload")?.files[0];

  async function upload() {
    const file = chosen();
    if (!file) return null;
    if (file.size > LARGEST_UPLOAD) return { size: file.size, data: "" };
    const bytes = new Uint8Array(await file.arrayBuffer());
    let text = "";
    for (let start = 0; start < bytes.length; start += 32768)
      text += String.fromCharCode(...bytes.subarray(start, start + 32768));
    return { size: file.size, data: btoa(text) };
  }

  document.documentElement.lang = "en";
  document.addEventListener("change", (event) => {
    if (event.target.id === "upload") document.getElementById("remove").hidden = !chosen();
  });
  document.addEventListener("click", (event) => {
    if (event.target.id !== "remove") return;
    document.getElementById("upload").value = "";
    event.target.hidden = true;
  });
  return { upload };
})();
