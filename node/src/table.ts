/** Things by small numbers, which are used again. */

/** What belongs to a number that is used again. @internal */
export class Table<T> {
  readonly rows: Array<T | undefined> = [];
  private readonly free: number[] = [];
  size = 0;

  add(row: T): number {
    this.size += 1;
    const number = this.free.pop() ?? this.rows.length;
    this.rows[number] = row;
    return number;
  }

  take(number: number): T | undefined {
    const row = this.rows[number];
    if (row !== undefined) {
      this.rows[number] = undefined;
      this.free.push(number);
      this.size -= 1;
    }
    return row;
  }
}
