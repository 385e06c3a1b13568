/**
 * The program that runs in a template's realm before any template. It is text, because it must be compiled there and
 * share nothing with us. It takes away what would make a render differ from the next (clock, random, locale) or could
 * wait (Atomics), makes `it` strict, and defines `render(path)` and `renderAll(paths)`, which answer in JSON.
 */
export function sandbox(data: string, limits: string, secrets: string): string {
  return `"use strict";
for (const name of ["Date", "Temporal", "Intl", "performance", "console", "Atomics", "SharedArrayBuffer", "WebAssembly", "WeakRef", "FinalizationRegistry"]) delete globalThis[name];
Math.random = undefined;
// Frames of a stack belong to the outer realm.
Object.defineProperty(Error, "stackTraceLimit", { value: 0, writable: false, configurable: false });
Object.defineProperty(Error, "prepareStackTrace", { value: undefined, writable: false, configurable: false });
const templates = Object.create(null);
const { render, renderAll } = (() => {
  const { parse, stringify } = JSON;
  const { hasOwn, keys } = Object;
  const { get } = Reflect;
  const isArray = Array.isArray;
  const data = ${data};
  const limits = ${limits};
  const secrets = ${secrets};
  data.secret = (name) => {
    if (hasOwn(secrets, name)) return secrets[name];
    throw new TemplateFailure("it.secret takes the name of a secret, in quotes; there is no " + stringify(name));
  };

  class TemplateFailure extends Error {
    constructor(message, unknown) { super(message); this.unknown = unknown; }
  }

  /** A view of a value that throws where plain JavaScript would answer undefined. */
  function strict(value, path) {
    if (value === null || typeof value !== "object") return value;
    return new Proxy(value, {
      get(target, key) {
        if (typeof key === "symbol" || hasOwn(target, key)) return strict(get(target, key), isArray(target) ? path + "[" + String(key) + "]" : path + "." + String(key));
        // What JavaScript itself asks of an object when it is printed, compared or turned into JSON.
        if (key === "toJSON") return undefined;
        if (isArray(target)) {
          if (key in target) return get(target, key);
          throw new TemplateFailure(path + " has " + target.length + " items, and no " + key, { of: path, key, known: [] });
        }
        if (key === "toString" || key === "valueOf") return get(target, key);
        throw new TemplateFailure(path + "." + key + " is not set", { of: path, key, known: keys(target) });
      },
      set(_target, key) { throw new TemplateFailure(path + "." + String(key) + " cannot be changed by a template"); },
      defineProperty(_target, key) { throw new TemplateFailure(path + "." + String(key) + " cannot be changed by a template"); },
      deleteProperty(_target, key) { throw new TemplateFailure(path + "." + String(key) + " cannot be changed by a template"); },
    });
  }

  function printed(value) {
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return String(value);
    if (value === undefined || value === null) throw new TemplateFailure("the value to print is " + value);
    if (isArray(value)) throw new TemplateFailure("a list cannot be printed as it is: join it, as in .join(\\" \\")");
    throw new TemplateFailure("a " + (typeof value === "object" ? "map" : typeof value) + " cannot be printed");
  }

  function run(path, it, place, depth) {
    if (depth > limits.includeDepthMax) throw new TemplateFailure("templates include each other more than " + limits.includeDepthMax + " levels deep");
    const outer = place.path;
    const outerLine = place.line;
    place.path = path;
    place.line = 1;
    let text = "";
    const eta = {
      f: printed,
      set line(value) { place.line = value; },
      get line() { return place.line; },
      get res() { return text; },
      set res(value) {
        if (value.length > limits.outputMax) throw new TemplateFailure("the template prints more than " + limits.outputMax + " characters");
        text = value;
      },
    };
    templates[path](it, eta, (name, more) => {
      if (!hasOwn(templates, name)) throw new TemplateFailure("include takes the name of a template below files/, in quotes; there is no " + stringify(name));
      return run(name, more === undefined ? it : strict({ ...data, ...more }, "it"), place, depth + 1);
    });
    place.path = outer;
    place.line = outerLine;
    return text;
  }

  function outcome(path) {
    const place = { path, line: 1 };
    try {
      return { text: run(path, strict(data, "it"), place, 0) };
    } catch (error) {
      const known = error instanceof TemplateFailure ? error.unknown : undefined;
      const message = error instanceof Error ? String(error.message) : "the template threw " + String(error);
      return { path: place.path, line: place.line, message, unknown: known };
    }
  }
  return { render: (path) => stringify(outcome(path)), renderAll: (paths) => stringify(paths.map(outcome)) };
})();`;
}
