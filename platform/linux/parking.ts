/**
 * Parking on a futex that works between processes: not the private kind, since the word lies in shared memory.
 *
 * @module
 */
import type { Address } from "../../ffi/mod.ts";
import { setTimespec } from "../posix/parking.ts";
import type { ParkingMechanism } from "../types.ts";
import { constants } from "./constants.ts";
import { numbers } from "./memory.ts";
import { linuxLibc } from "./symbols.ts";

const timeout = new Uint8Array(16);
const halves = new Int32Array(timeout.buffer);

/** FUTEX_WAIT and FUTEX_WAKE, futex(2). */
export const linuxParking: ParkingMechanism = {
  parkWord(address: Address, expected: number, milliseconds: number): void {
    setTimespec(halves, milliseconds);
    // Every result means the same to the caller: look at the word again.
    linuxLibc.futex(numbers.SYS_futex, address, constants.FUTEX_WAIT, expected >>> 0, timeout);
  },
  unparkWord(address: Address): void {
    linuxLibc.futex(numbers.SYS_futex, address, constants.FUTEX_WAKE, 0x7fffffff, null);
  },
};
