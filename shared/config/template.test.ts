import { describe, expect, test } from "vitest";
import { formatDiagnostics } from "./diagnostic.ts";
import { TEMPLATE_OUTPUT_MAX, TemplateRenderer, compileTemplate } from "./template.ts";
import type { Template, TemplateData } from "./template.ts";

const data: TemplateData = {
  node: { name: "n1", address: "10.0.0.1" },
  vars: { page_title: "Cupboard", ports: [80, 443] },
  cluster: { name: "cupboard", nodes: [{ name: "n1", address: "10.0.0.1" }, { name: "n2" }] },
};

/** The text, or what is wrong. */
function render(text: string, others: Readonly<Record<string, string>> = {}, timeoutMs?: number): string {
  const templates = new Map<string, Template>();
  for (const [path, source] of Object.entries({ "main.eta": text, ...others })) {
    const compiled = compileTemplate(path, new TextEncoder().encode(source));
    if (!compiled.ok) return formatDiagnostics([compiled.diagnostic]);
    templates.set(path, compiled.template);
  }
  const rendered = new TemplateRenderer(templates, data, timeoutMs).render("main.eta");
  return rendered.ok ? rendered.text : formatDiagnostics([rendered.diagnostic]);
}

describe("what is printed", () => {
  test.each([
    ["plain $text 'with' \"quotes\" \\n `${x}` \\\\ </script>\n", "plain $text 'with' \"quotes\" \\n `${x}` \\\\ </script>\n"],
    ["I am <%= it.node.name %> of <%= it.cluster.name %>\nnext\n", "I am n1 of cupboard\nnext\n"],
    ["<%= '<b> & \"q\"' %>\n", '<b> & "q"\n'],
    ["<% for (const port of it.vars.ports) { %>\nlisten <%= port %>;\n<% } %>\nend\n", "listen 80;\nlisten 443;\nend\n"],
    ["  <% if (true) { %>\n  a\n  <% } %>\nb\n", "  a\nb\n"],
    ["a <% if (true) { %>b<% } %> c\n", "a b c\n"],
    ["<%= it.cluster.nodes.filter((node) => 'address' in node).map((node) => node.name).join(' ') %>", "n1"],
    ["<%= JSON.stringify(it.vars) %>", '{"page_title":"Cupboard","ports":[80,443]}'],
    ["<% const x = 1 %>\n<% (() => {})() %>\n<%= x %>\n", "1\n"],
    ["<%= it.vars.page_title -%>\nx", "Cupboardx"],
    ["", ""],
  ])("%j", (text, expected) => {
    expect(render(text)).toBe(expected);
  });

  test("templates include templates below files/, with values of their own", () => {
    expect(render("a <%= include('parts/line.eta', { port: 80 }) %> b", { "parts/line.eta": "[<%= it.port %> <%= it.node.name %>]" })).toBe("a [80 n1] b");
  });
});

describe("what is refused, and how it is told", () => {
  test.each([
    ["a var that is not set", "a\nb <%= it.vars.page_titel %>\n", "files/main.eta:2:15: error: it.vars.page_titel is not set\n 2 | b <%= it.vars.page_titel %>\n   |               ^^^^^^^^^^\nhelp: did you mean \"page_title\"?"],
    ["a node's field that is not set", "<%= it.cluster.nodes[1].address %>", "it.cluster.nodes[1].address is not set"],
    ["an item past the end", "<%= it.vars.ports[7] %>", "it.vars.ports has 2 items, and no 7"],
    ["a name of nothing", "x\n<%= page_title %>", "files/main.eta:2:5: error: page_title is not defined\n 2 | <%= page_title %>\n   |     ^^^^^^^^^^\nhelp: write it.vars.page_title"],
    ["undefined", "<%= undefined %>", "the value to print is undefined"],
    ["a list", "<%= it.vars.ports %>", "a list cannot be printed as it is"],
    ["a map", "<%= it.vars %>", "a map cannot be printed"],
    ["a raw map", "<%~ it.vars %>", "a map cannot be printed"],
    ["changing what it sees", "<% it.vars.page_title = 'x' %>", "it.vars.page_title cannot be changed"],
    ["JavaScript that does not parse", "a\nb\n<% if ( { %>\n", "files/main.eta:3:1: error: JavaScript in the template:"],
    ["an unclosed block", "a\n<% if (true) { %>\n", "files/main.eta:"],
    ["an unclosed tag", "a\n <% foo", "files/main.eta:2:2: error: unclosed tag"],
    ["the clock", "<%= new Date() %>", "help: a template has no clock"],
    ["chance", "<%= Math.random() %>", "Math.random is not a function"],
    ["import", "x\n<% import('node:fs') %>", "files/main.eta:2:4: error: a template cannot import"],
    ["a template that includes itself", "<%= include('main.eta') %>", "more than 8 levels deep"],
    ["an include that is not there", "<% const n = 'nope.eta' %><%= include(n) %>", 'there is no "nope.eta"'],
    ["recursion without end", "<% const f = () => f(); f() %>", "Maximum call stack size exceeded"],
    ["throwing nothing", "<% throw null %>", "the template threw null"],
    ["too much text", "<% for (;;) { %>0123456789abcdef<% } %>", `prints more than ${TEMPLATE_OUTPUT_MAX} characters`],
  ])("%s", (_name, text, expected) => {
    expect(render(text)).toContain(expected);
  });

  test.each(["<% for (;;) {} %>", "<% Promise.resolve().then(() => { for (;;); }) %>", "<% throw { toString() { for (;;); } } %>"])("%s ends", (text) => {
    expect(render(text, {}, 50)).toContain("did not end within 50 ms");
  });

  test("a mistake in an included template is told there", () => {
    expect(render("<%= include('a/b.eta') %>", { "a/b.eta": "ok\n<%= it.vars.nope %>" })).toContain("files/a/b.eta:2:13: error: it.vars.nope is not set");
  });

  test.each(["process", "require", "globalThis.process", "module", "Buffer", "fetch", "setTimeout"])("there is no %s", (name) => {
    expect(render(`<%= typeof ${name} %>`)).toBe("undefined");
  });

  test.each([
    "it.constructor.constructor('return process')()",
    "it.vars.ports.map.constructor('return process')()",
    "(() => {}).constructor('return process')()",
    "include.constructor.constructor('return process')()",
    "eval('1')",
    "globalThis.constructor.constructor('return process')()",
  ])("%s does not get out", (code) => {
    expect(render(`<%= String(${code}) %>`)).toContain("error:");
  });

  test("stacks hold no frame of ours", () => {
    expect(render("<% try { Error.prepareStackTrace = (_, frames) => frames } catch {} %><%= typeof new Error('x').stack %>")).toBe("string");
  });

  test("what one template did is gone for the next", () => {
    expect(render("<% globalThis.left = 1 %><%= typeof globalThis.left %>")).toBe("number");
    expect(render("<%= typeof globalThis.left %>")).toBe("undefined");
  });
});

test.each(["<% }; for (;;) {} { %>", "<% } globalThis.x = 1; if (true) { %>", "<% }, (() => { for (;;); })(), function () { %>"])("%s cannot close the function that it is in", (text) => {
  expect(render(text)).toContain("JavaScript in the template:");
});

describe("renderAll", () => {
  const compiled = (files: Readonly<Record<string, string>>) =>
    new Map(Object.entries(files).flatMap(([path, text]) => {
      const result = compileTemplate(path, new TextEncoder().encode(text));
      return result.ok ? [[path, result.template] as const] : [];
    }));

  test("gives each its own answer", () => {
    const all = new TemplateRenderer(compiled({ a: "1", b: "<%= it.vars.nope %>", c: "3" }), data).renderAll(["a", "b", "c"]);
    expect([...all].map(([path, result]) => [path, result.ok ? result.text : result.diagnostic.message])).toEqual([["a", "1"], ["b", "it.vars.nope is not set"], ["c", "3"]]);
  });

  test("one that does not end does not take the others with it", () => {
    const all = new TemplateRenderer(compiled({ a: "1", b: "<% for (;;) {} %>", c: "3" }), data, 50).renderAll(["a", "b", "c"]);
    expect([...all.values()].map((result) => (result.ok ? result.text : result.timedOut))).toEqual(["1", true, "3"]);
  });

  test("one that breaks the realm is told, and does not take the process with it", () => {
    const all = new TemplateRenderer(compiled({ a: "<% JSON.stringify = () => 'x'; Array.prototype.map = () => 1; %>a", b: "b" }), data).renderAll(["a", "b"]);
    expect(all.size).toBe(2);
  });
});
