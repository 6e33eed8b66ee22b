/** A progress bar, where there is a terminal to draw it on. */

/** What the bar is drawn on: a part of `process.stdout`. */
export interface Screen {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const REDRAW_MS = 50;
const BAR_WIDTH = 30;

/** One bar, on one line that it clears when it is disposed. Where there is no terminal it writes nothing. */
export class Progress implements Disposable {
  readonly #screen: Screen;
  readonly #label: string;
  readonly #total: number;
  #done = 0;
  #drawn = -Infinity;

  /**
   * @param screen where to draw
   * @param label what is under way
   * @param total how much there is to do, in any unit
   */
  constructor(screen: Screen, label: string, total: number) {
    this.#screen = screen;
    this.#label = label;
    this.#total = total;
    this.advance(0);
  }

  /** Says that more is done. Draws at most every 50 ms. */
  advance(by: number): void {
    this.#done += by;
    const now = performance.now();
    if (this.#screen.isTTY !== true || now - this.#drawn < REDRAW_MS) return;
    this.#drawn = now;
    const share = this.#total === 0 ? 1 : Math.min(1, this.#done / this.#total);
    const full = Math.round(share * BAR_WIDTH);
    const line = `${this.#label} ${"█".repeat(full)}${"░".repeat(BAR_WIDTH - full)} ${
      Math.floor(share * 100)
    }%`;
    this.#screen.write(`\r\x1b[K${line.slice(0, (this.#screen.columns ?? 80) - 1)}`);
  }

  [Symbol.dispose](): void {
    if (this.#screen.isTTY === true) this.#screen.write("\r\x1b[K");
  }
}
