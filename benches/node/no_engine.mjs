// The package over a native half that costs next to nothing: what a perfect engine would leave to be paid for. It is no
// engine: it holds no task, knows no store, and cannot fail. It only answers each crossing in the form that the package
// reads (`node/src/wire.ts`): what is submitted is accepted, started when the package lets handlers run, a thousand in one
// crossing as the engine does, and has ended when its handler has.
//
// To be imported before the package, in a process of its own: it takes the addon's place in the cache of modules.
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const { Command, News, HEAD } = require('../../node/dist/wire.js');

/** How many handlers are started in one crossing: `maxInFlight`. */
const IN_FLIGHT = 1_000;

/** More submits than JavaScript could make in a turn. */
const CREDIT = 1 << 14;

class NoEngine {
  /** Slots of tasks that have not started, as a ring; and their handlers. */
  #slots = new Uint32Array(1 << 17);
  #handlers = new Uint32Array(1 << 17);
  #first = 0;
  #last = 0;
  /** Slots of those that have, by the numbers of their jobs. */
  #jobs = new Uint32Array(IN_FLIGHT);

  lend() {}
  open() {
    return 0;
  }
  register() {}
  close() {}
  isDurable() {
    return false;
  }
  state() {
    return null;
  }

  exchange(asked, count, text, bytes, length, room, inPassing) {
    const ring = this.#slots.length - 1;
    const accepted = [];
    let said = '';
    let at = HEAD;
    // The news of what is accepted come first, and their number before them.
    let first = this.#last;
    const ended = [];
    for (let place = 0; place < count; ) {
      switch (asked[place]) {
        case Command.submitPlain:
          this.#slots[this.#last & ring] = asked[place + 2];
          this.#handlers[this.#last & ring] = asked[place + 3];
          this.#last += 1;
          place += 5;
          break;
        case Command.succeededPlain:
          ended.push(this.#jobs[asked[place + 1]]);
          place += 3;
          break;
        case Command.request:
          accepted.push(asked[place + 2]);
          place += 3;
          break;
        default:
          throw new Error(`what only stands in for an engine was asked ${asked[place]}`);
      }
    }
    if (first !== this.#last) {
      room[at++] = News.accepted;
      room[at++] = this.#last - first;
      for (; first !== this.#last; first += 1) {
        room[at] = this.#slots[first & ring];
        room[at + 1] = room[at + 2] = room[at + 3] = 0;
        room[at + 4] = first;
        at += 5;
      }
    }
    for (const slot of ended) {
      room[at++] = News.succeededOwn;
      room[at++] = slot;
    }
    for (const request of accepted) {
      room[at++] = News.answer;
      room[at++] = request;
      said += 'null\n';
    }
    if (!inPassing) {
      for (let job = 0; job < IN_FLIGHT && this.#first !== this.#last && at + 10 <= room.length; job += 1, this.#first += 1) {
        const slot = this.#slots[this.#first & ring];
        this.#jobs[job] = slot;
        room[at] = News.startOwn;
        room[at + 1] = 0;
        room[at + 2] = this.#handlers[this.#first & ring];
        room[at + 3] = job;
        room[at + 4] = 1;
        room[at + 5] = room[at + 6] = room[at + 7] = 0;
        room[at + 8] = this.#first;
        room[at + 9] = slot;
        at += 10;
      }
    }
    room[0] = at - HEAD;
    room[1] = this.#first === this.#last ? 0 : 1;
    room[2] = CREDIT;
    return said;
  }
}

const path = require.resolve('../../node/dist/addon.js');
const native = path.replace(/addon\.js$/, 'native.js');
require.cache[native] = { id: native, filename: native, loaded: true, exports: { Port: NoEngine }, children: [], paths: [] };
