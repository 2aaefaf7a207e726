// What piscina's worker runs.
export const noop = () => null;
export const echo = (input) => input;
