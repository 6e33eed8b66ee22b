/**
 * A socket filter (SO_ATTACH_FILTER): the kernel drops at the sender's side what does not begin with a key, so that a stranger's datagrams neither wake
 * the receiver nor fill its queue.
 *
 * @module
 */
import { addressOf, keepAlive } from "../../ffi/mod.ts";
import { constants, structs } from "./constants.ts";
import { linuxLibc } from "./symbols.ts";

const WORD = 4;
const ALL = 0xffffffff;

/**
 * Has a socket take only datagrams that begin with a key. Legal before it has an address.
 *
 * @param fd a datagram socket
 * @param key whole 32-bit words
 * @returns false where the kernel does not filter: then the receiver must look at each
 */
export function admitDatagrams(fd: number, key: Uint8Array): boolean {
  const words = key.length / WORD;
  const instruction = structs["struct sock_filter"];
  const code = new DataView(new ArrayBuffer((2 * words + 2) * instruction.size));
  let count = 0;
  const add = (operation: number, value: number, otherwise = 0): void => {
    const at = count++ * instruction.size;
    code.setUint16(at + instruction.code, operation, true);
    code.setUint8(at + instruction.jf, otherwise);
    code.setUint32(at + instruction.k, value, true);
  };
  const { BPF_LD, BPF_W, BPF_ABS, BPF_JMP, BPF_JEQ, BPF_RET } = constants;
  const source = new DataView(key.buffer, key.byteOffset, key.length);
  for (let i = 0; i < words; i++) {
    // A load behind the datagram's end drops it, too. Loads are in network order.
    add(BPF_LD | BPF_W | BPF_ABS, i * WORD);
    add(BPF_JMP | BPF_JEQ, source.getUint32(i * WORD), 2 * (words - i) - 1);
  }
  add(BPF_RET, ALL);
  add(BPF_RET, 0);
  const layout = structs["struct sock_fprog"];
  const program = new DataView(new ArrayBuffer(layout.size));
  program.setUint16(layout.len, count, true);
  program.setBigUint64(layout.filter, BigInt(addressOf(code)), true);
  const { SOL_SOCKET, SO_ATTACH_FILTER } = constants;
  const result = linuxLibc.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, program, layout.size);
  keepAlive(code);
  return result === 0;
}
