import * as z from "zod";
import { RecipientsFile } from "../secrets/recipients-file.ts";
import { Cluster, nodeFields } from "./cluster.ts";

/** As much of a kind as editors and readers want to know. */
export interface DocumentedKind {
  readonly name: string;
  readonly summary: string;
  readonly schema: z.ZodType;
}

/** A JSON Schema, as far as we make and read it. Draft 7, because that is what YAML language servers know best. */
export interface JsonSchema {
  readonly $schema?: string;
  readonly $ref?: string;
  readonly title?: string;
  readonly description?: string;
  readonly type?: string | readonly string[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly default?: unknown;
  readonly examples?: readonly unknown[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: JsonSchema | boolean;
  readonly propertyNames?: JsonSchema;
  readonly definitions?: Readonly<Record<string, JsonSchema>>;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly allOf?: readonly JsonSchema[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly pattern?: string;
}

/** What one may write, not what comes of it. */
export function inputSchema(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, { io: "input", target: "draft-7", unrepresentable: "any" }) as JsonSchema;
}

/** File name → JSON Schema, for editors: completion and checks while typing. `evenkeel validate` says more. */
export function editorSchemas(kinds: readonly DocumentedKind[]): ReadonlyMap<string, JsonSchema> {
  const { roles, vars, address, recipient, fleetlock } = nodeFields;
  const sections = Object.fromEntries(kinds.map((kind) => [kind.name, section(kind)]));
  const shared = { roles: nullable(inputSchema(roles)), vars: partial(inputSchema(vars)), ...sections };
  const file = (title: string, properties: Readonly<Record<string, JsonSchema>>): JsonSchema => ({
    $schema: "http://json-schema.org/draft-07/schema#",
    title,
    type: ["object", "null"],
    properties: mapValues(properties, withoutDialect),
    additionalProperties: false,
    definitions: { secret: SECRET },
  });
  return new Map([
    ["cluster.json", { ...inputSchema(Cluster), title: "cluster.yaml of an Evenkeel cluster" }],
    ["node.json", file("A node of an Evenkeel cluster (nodes/NAME.yaml)", { address: inputSchema(address), recipient: inputSchema(recipient), fleetlock: inputSchema(fleetlock), ...shared })],
    ["role.json", file("A role of an Evenkeel cluster (roles/NAME.yaml)", shared)],
    ["recipients.json", { ...inputSchema(RecipientsFile), title: "Who may read which secret of an Evenkeel cluster (secrets/recipients.yaml)" }],
  ]);
}

function section(kind: DocumentedKind): JsonSchema {
  return { ...withSecrets(partial(inputSchema(kind.schema))), description: kind.summary };
}

const SECRET: JsonSchema = {
  type: "object",
  description: "A secret: what secrets/NAME.age holds, which only the nodes that may read it can decrypt",
  properties: { secret: { type: "string", description: "The secret's name" } },
  additionalProperties: false,
};

/** Wherever text may stand, a secret may: see shared/secrets/references.ts. */
function withSecrets(schema: JsonSchema, depth = 0): JsonSchema {
  const inner: JsonSchema = {
    ...schema,
    ...(schema.properties && { properties: mapValues(schema.properties, (each) => withSecrets(each, depth + 1)) }),
    ...(typeof schema.additionalProperties === "object" && { additionalProperties: withSecrets(schema.additionalProperties, depth + 1) }),
    ...(schema.items && { items: withSecrets(schema.items, depth + 1) }),
    // A branch that is text makes the whole one that a secret may stand for; its description stays with the whole.
    ...(schema.anyOf && { anyOf: schema.anyOf.some(isText) && depth > 1 ? [...schema.anyOf.map((each) => (isText(each) ? each : withSecrets(each, depth))), SECRET_REFERENCE] : schema.anyOf.map((each) => withSecrets(each, depth)) }),
  };
  if (depth <= 1 || !isText(inner)) return inner;
  const { description, ...text } = inner;
  return { ...(description !== undefined && { description }), anyOf: [text, SECRET_REFERENCE] };
}

const SECRET_REFERENCE: JsonSchema = { $ref: "#/definitions/secret" };

function isText({ type, const: fixed, enum: choices, anyOf }: JsonSchema): boolean {
  return (type === "string" || (Array.isArray(type) && type.includes("string"))) && fixed === undefined && choices === undefined && anyOf === undefined;
}

/**
 * A schema for one file of several that are merged: nothing is required, since a role may bring it, and `null` is
 * allowed everywhere, since it takes away what a role brings. With that, several branches may fit, so `oneOf` becomes `anyOf`.
 */
function partial(schema: JsonSchema): JsonSchema {
  const { required: _required, oneOf, anyOf, ...rest } = schema;
  const branches = anyOf ?? oneOf;
  return nullable({
    ...rest,
    ...(schema.properties && { properties: mapValues(schema.properties, partial) }),
    ...(typeof schema.additionalProperties === "object" && { additionalProperties: partial(schema.additionalProperties) }),
    ...(branches && { anyOf: branches.map(partial) }),
  });
}

function nullable(schema: JsonSchema): JsonSchema {
  if (schema.anyOf !== undefined) return { ...schema, anyOf: [...schema.anyOf.filter((each) => each.type !== "null"), { type: "null" }] };
  if (typeof schema.type === "string" && schema.const === undefined && schema.enum === undefined) return { ...schema, type: [schema.type, "null"] };
  return schema;
}

function withoutDialect(schema: JsonSchema): JsonSchema {
  const { $schema: _dialect, ...rest } = schema;
  return rest;
}

function mapValues<T, U>(record: Readonly<Record<string, T>>, make: (value: T) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, make(value)]));
}
