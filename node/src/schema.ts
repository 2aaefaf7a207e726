/**
 * Standard Schema (https://standardschema.dev): what zod, valibot, arktype and others have in common.
 *
 * An input is validated twice: before it is accepted, so that a mistake is the submitter's; and before the handler
 * runs, since others may have written it. Both times it is the encoded input that is looked at, as the handler would
 * find it. What the schema makes of it (defaults, coerced dates) is what the handler gets.
 *
 * An input that is left out is null in JSON. A schema is asked of that; if it refuses null, of `undefined`. So `submit()`
 * does for a schema that is optional, or has a default, and for one that takes null.
 */

import { InvalidPayload, type Issue } from './errors.js';
import { shown } from './durations.js';

/** A schema of any library that follows the standard. */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => Verdict<Output> | Promise<Verdict<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

type Verdict<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly Issue[] };

/** What a schema takes. */
export type InputOf<Schema> = Schema extends StandardSchema<infer Input, unknown>
  ? NonNullable<Schema['~standard']['types']>['input'] extends infer Declared
    ? unknown extends Declared
      ? Input
      : Declared
    : never
  : never;

/** What a schema makes of it. */
export type OutputOf<Schema> = Schema extends StandardSchema
  ? NonNullable<Schema['~standard']['types']>['output']
  : never;

/** @internal */
export function isSchema(value: unknown): value is StandardSchema {
  if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return false;
  const standard = (value as Partial<StandardSchema>)['~standard'];
  return typeof standard === 'object' && standard !== null && typeof standard.validate === 'function';
}

function place(issue: Issue): string {
  const keys = (issue.path ?? []).map((key) => (typeof key === 'object' ? key.key : key));
  return keys.map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`)).join('');
}

function accept(name: string, verdict: Verdict<unknown>): unknown {
  if (verdict === null || typeof verdict !== 'object') {
    throw new InvalidPayload(`the schema of ${name} answered ${shown(verdict)}, which is no verdict`);
  }
  if (verdict.issues === undefined) return verdict.value;
  const found = verdict.issues.map((issue) => `input${place(issue)}: ${issue.message}`);
  throw new InvalidPayload(`the schema of ${name} refuses its input: ${found.join('; ') || 'it does not say why'}`, {
    code: 'TL1203',
    issues: verdict.issues,
  });
}

/** What the schema makes of an encoded input, now or later. @internal */
export function validate(schema: StandardSchema, name: string, value: unknown): unknown {
  const verdict = schema['~standard'].validate(value);
  if (value === null) return verdict instanceof Promise ? verdict.then((later) => none(schema, name, later)) : none(schema, name, verdict);
  return verdict instanceof Promise ? verdict.then((later) => accept(name, later)) : accept(name, verdict);
}

/** The same of none, for which JSON has null: a schema that refuses that may be one that is optional, or has a default. */
function none(schema: StandardSchema, name: string, ofNull: Verdict<unknown>): unknown {
  if (ofNull?.issues === undefined) return accept(name, ofNull);
  const chosen = (verdict: Verdict<unknown>): unknown => accept(name, verdict?.issues === undefined ? verdict : ofNull);
  const verdict = schema['~standard'].validate(undefined);
  return verdict instanceof Promise ? verdict.then(chosen) : chosen(verdict);
}
