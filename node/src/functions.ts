/** What a function is, as far as that says how it can be called. */

/** @internal */
export type FunctionKind = 'plain' | 'async' | 'generator' | 'class';

const TAGS: Record<string, FunctionKind> = {
  '[object AsyncFunction]': 'async',
  '[object GeneratorFunction]': 'generator',
  '[object AsyncGeneratorFunction]': 'generator',
};

/** @internal */
export function kindOfFunction(given: Function): FunctionKind {
  const kind = TAGS[Object.prototype.toString.call(given)];
  if (kind !== undefined) return kind;
  // Errors of the language are no classes by their text.
  const isError = given === Error || (given.prototype as unknown) instanceof Error;
  return isError || /^class\b/.test(Function.prototype.toString.call(given)) ? 'class' : 'plain';
}
