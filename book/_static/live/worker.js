/* Python in a worker of the page. It is given every file before it starts and asks for none: `fetch`, as the
   runtime knows it, looks into that store. The page turns this function into the worker's script, which works
   where the page is a file as well. */
companionRun.worker = () => {
  const store = {};
  const types = { wasm: "application/wasm", json: "application/json" };
  const bytes = (data) => (typeof data === "string" ? Uint8Array.from(atob(data), (c) => c.charCodeAt(0)) : data);
  self.fetch = async (request) => {
    const name = String(request.url ?? request).split("/").pop();
    if (!(name in store)) throw new TypeError(`a live page has no file ${name}, and asks nobody for it`);
    return new Response(store[name], { headers: { "Content-Type": types[name.split(".").pop()] ?? "" } });
  };
  const script = (name) => importScripts(URL.createObjectURL(new Blob([store[name]], { type: "text/javascript" })));
  let python, kernel;

  const calls = {
    /* Start Python with the files of the runtime, the packages named, and the book's own package. */
    async start({ files, packages }) {
      for (const [name, data] of Object.entries(files)) store[name] = bytes(data);
      script("pyodide.asm.js");
      script("pyodide.js");
      python = await loadPyodide({ indexURL: "https://files.invalid/", env: { MPLBACKEND: "module://drawing" } });
      await python.loadPackage(packages, { messageCallback() {}, checkIntegrity: false });
      for (const name in store) if (name.startsWith("companion-")) python.unpackArchive(store[name], "wheel");
      for (const name of ["kernel.py", "drawing.py"]) python.FS.writeFile(name, store[name]);
      kernel = python.pyimport("kernel");
      for (const name in store) delete store[name];
    },
    run: ({ number, source, values }) => JSON.parse(kernel.run(number, source, JSON.stringify(values))),
    write: ({ name, data }) => python.FS.writeFile(name, new Uint8Array(data)),
    read: ({ name }) => python.FS.readFile(name),
    answer: ({ call, given }) => JSON.parse(kernel.answer(call, ...given)),
    certificate: () => kernel.certificate(),
    modules: () => python.runPython("import sys; ' '.join(sys.modules)").split(" "),
  };
  onmessage = async ({ data: { id, call, given } }) => {
    try {
      postMessage({ id, value: await calls[call](given) });
    } catch (error) {
      postMessage({ id, error: String(error.message ?? error) });
    }
  };
};
