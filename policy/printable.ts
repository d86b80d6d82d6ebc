// Makes text of unknown origin safe for a log line and a terminal. Changes nothing that is matched or dialled.

const maxShownLength = 80;

/** `text` as printable ASCII of at most 80 characters; other characters as `\xNN` or `\uNNNN`. */
export function printable(text: string): string {
  let shown = '';
  for (let i = 0; i < text.length && shown.length <= maxShownLength; i += 1) {
    const code = text.charCodeAt(i);
    shown += code >= 0x20 && code < 0x7f ? text.charAt(i) : escapeCode(code);
  }
  return shown.length <= maxShownLength ? shown : `${shown.slice(0, maxShownLength - 3)}...`;
}

function escapeCode(code: number): string {
  return code > 0xff
    ? `\\u${code.toString(16).padStart(4, '0')}`
    : `\\x${code.toString(16).padStart(2, '0')}`;
}
