/** What is said when a handler has blocked the event loop. */

/** A handler that blocked the loop, as the native half tells of it. @internal */
export interface Blocked {
  handlers: string[];
  millis: number;
  /** Whether it is one of these for certain. */
  isSure: boolean;
}

/** The loop was blocked, and turns again. @internal */
export function warn({ handlers, millis, isSure }: Blocked): void {
  const names = handlers.map((name) => JSON.stringify(name)).join(' or ');
  const span = `the event loop for ${Math.round(millis)} ms and more: nothing else ran on this thread`;
  process.emitWarning(
    isSure ? `handler ${names} blocked ${span}` : `handler ${names}, or code beside it, blocked ${span}`,
    {
      type: 'TaskloomWarning',
      code: 'TASKLOOM_LOOP_BLOCKED',
      detail: 'let it await now and then, or run what computes in a thread: app.task(name, { thread: true, module })',
    },
  );
}
