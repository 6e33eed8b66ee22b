// deno-lint-ignore-file explicit-module-boundary-types -- plain JavaScript: node runs it before anything is installed
/** Reduces a source to what runs, so that a check of names does not trip over comments and texts. */

/** After these a slash begins a regular expression, not a division. */
const BEFORE_EXPRESSION =
  /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|void|await|yield|throw))\s*$/;

/**
 * @param {string} text a TypeScript source
 * @returns {string} the same without comments, and with empty texts and regular expressions; lines, and what stands in a
 * template's `${}`, stay
 */
export function codeOf(text) {
  let out = "";
  let at = 0;
  const lines = (part) => part.replace(/[^\n]/g, "");
  /** Skips a quoted text or a regular expression that starts here. */
  const skip = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found === null) return false;
    at = pattern.lastIndex;
    out += `""${lines(found[0])}`;
    return true;
  };
  const template = () => {
    at++;
    out += '""';
    while (at < text.length && text[at] !== "`") {
      if (text[at] === "\\") at += 2;
      else if (text.startsWith("${", at)) {
        at += 2;
        out += " + (";
        expression();
        out += ")";
      } else out += lines(text[at++]);
    }
    at++;
  };
  /** Copies code up to the brace that ends it, or to the end. */
  const expression = () => {
    for (let depth = 0; at < text.length;) {
      const c = text[at];
      if (text.startsWith("//", at)) {
        while (at < text.length && text[at] !== "\n") at++;
      } else if (text.startsWith("/*", at)) {
        const end = text.indexOf("*/", at + 2);
        const stop = end === -1 ? text.length : end + 2;
        out += ` ${lines(text.slice(at, stop))}`;
        at = stop;
      } else if (c === "`") template();
      else if (c === '"' && skip(/"(?:[^"\\\n]|\\[\s\S])*"/y)) continue;
      else if (c === "'" && skip(/'(?:[^'\\\n]|\\[\s\S])*'/y)) continue;
      else if (
        c === "/" && BEFORE_EXPRESSION.test(out.slice(-40)) &&
        skip(/\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y)
      ) continue;
      else {
        if (c === "{") depth++;
        if (c === "}" && depth-- === 0) {
          at++;
          return;
        }
        out += c;
        at++;
      }
    }
  };
  while (at < text.length) expression();
  return out;
}
