// Helpers for tests, as an ES module: the same objects as for `require`.
import testing from './dist/testing.js';

export const { failures, withTesting } = testing;
