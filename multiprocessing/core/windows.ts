/**
 * Windows: buffers that show user code a piece of shared memory, and that can be taken away while views of them are in use.
 *
 * The memory behind a view may go, or come to hold something else, as soon as its handle is disposed. A window detaches the buffer first, so a
 * view that is used later is empty and never reaches memory. While user code has a view the handle is not collected.
 *
 * @module
 */
import { type SharedMapping, unmap } from "../../platform/mod.ts";

/** While a buffer can be reached, so can its handle. */
const keepers = new WeakMap<ArrayBuffer, object>();
const dropped = new FinalizationRegistry<Window>((window) => window.close());

export class Window {
  readonly #windows: Set<Window>;
  /** Weak, as the session knows all windows, and would keep their handles. */
  readonly #buffer: WeakRef<ArrayBuffer>;
  readonly #address: number;
  /** Bytes to unmap; 0 when the memory is a part of the arena. */
  readonly #mapped: number;
  #open = true;

  /**
   * @param windows all that the session must close when it ends in this agent
   * @param shown the memory, by a buffer that nobody else has
   * @param handle what the buffer belongs to
   * @param isMapping whether it is a mapping of its own
   */
  constructor(windows: Set<Window>, shown: SharedMapping, handle: object, isMapping: boolean) {
    this.#windows = windows.add(this);
    this.#buffer = new WeakRef(shown.buffer);
    this.#address = shown.address;
    this.#mapped = isMapping ? shown.buffer.byteLength : 0;
    keepers.set(shown.buffer, handle);
    dropped.register(handle, this, this);
  }

  /** Detaches every view, and unmaps the memory if it is a mapping. Closing twice is closing once. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#windows.delete(this);
    dropped.unregister(this);
    const buffer = this.#buffer.deref();
    // Somebody transferred it, and has the memory in a buffer that is not known here: better a mapping too many than a crash.
    if (buffer?.detached === true) return;
    // Without a copy: the new owner of the memory is garbage at once, and does not free it.
    buffer?.transfer();
    if (this.#mapped > 0) unmap(this.#address, this.#mapped);
  }
}
