// What the benchmarks pass in and out: about 130 bytes of JSON.
export const PAYLOAD = {
  id: 123456,
  name: 'a name of a thing',
  tags: ['alpha', 'beta', 'gamma'],
  ok: true,
  ratio: 0.12345,
  text: 'x'.repeat(26),
};
