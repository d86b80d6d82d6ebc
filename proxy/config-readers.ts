// Reads one setting's value from text (flag, environment) or from JSON (file), strictly. Knows kinds of values, not settings.
/** One kind of value. `text` and `json` throw BadValue. */
export interface Reader<Value> {
  /** What to type, for --help: `ADDR:PORT`. Empty for a switch. */
  readonly placeholder: string;
  /** May be given more than once; in the environment the values are separated by commas. */
  readonly isList: boolean;
  text(texts: readonly string[]): Value;
  json(value: unknown): Value;
  /** As it would be typed. */
  show(value: Value): string;
}

/** A value that cannot be used. `help` says what to give instead. */
export class BadValue extends Error {
  readonly help: string;

  constructor(message: string, help: string) {
    super(message);
    this.name = 'BadValue';
    this.help = help;
  }
}

/** Reader of one value made from its text; JSON takes the same text. */
export function scalar<Value>(
  placeholder: string,
  parse: (text: string) => Value,
  show: (value: Value) => string = String,
): Reader<Value> {
  return {
    placeholder,
    isList: false,
    text: (texts) => parse(theOnly(texts)),
    json: (value) => parse(stringOf(value)),
    show,
  };
}

function theOnly(texts: readonly string[]): string {
  if (texts.length > 1) throw new BadValue(`\`${texts.join('`, `')}\`: this is one value`, 'give it once');
  return texts[0] ?? '';
}

/** Any text that matches. */
export function text(placeholder: string, pattern: RegExp, help: string): Reader<string> {
  return scalar(placeholder, (given) => {
    if (!pattern.test(given)) throw new BadValue(`\`${given}\` is not usable`, help);
    return given;
  });
}

/** A path; no look at the file system. */
export const path = text('FILE', /^[^\0]+$/u, 'give a path');

/** `none` (in JSON: null) stands for null, so that a flag can switch off what a file has set. */
export function orNone<Value>(reader: Reader<Value>): Reader<Value | null> {
  return {
    ...reader,
    text: (texts) => (texts.at(-1) === 'none' ? null : reader.text(texts)),
    json: (value) => (value === null ? null : reader.json(value)),
    show: (value) => (value === null ? 'none' : reader.show(value)),
  };
}

/** Reader of many; JSON takes a list. */
export function list<Value>(reader: Reader<Value>): Reader<readonly Value[]> {
  return {
    placeholder: reader.placeholder,
    isList: true,
    text: (texts) => texts.map((one) => reader.text([one])),
    json(value) {
      if (!Array.isArray(value)) throw new BadValue('this is not a list', 'give a list in square brackets');
      return value.map((one: unknown) => reader.json(one));
    },
    show: (values) => (values.length === 0 ? 'none' : values.map((one) => reader.show(one)).join(',')),
  };
}

export const toggle: Reader<boolean> = {
  ...scalar('', (given) => {
    if (given !== 'true' && given !== 'false')
      throw new BadValue(`\`${given}\` is neither`, 'give true or false');
    return given === 'true';
  }),
  json(value) {
    if (typeof value !== 'boolean')
      throw new BadValue('this is not true or false', 'give true or false, without quotes');
    return value;
  },
};

/** A whole number from `min` to `max`. */
export function whole(min: number, max: number): Reader<number> {
  const help = `give a whole number from ${min} to ${max}`;
  const check = (given: number, shown: string): number => {
    if (!Number.isSafeInteger(given) || given < min || given > max)
      throw new BadValue(`\`${shown}\` is out of range`, help);
    return given;
  };
  return {
    ...scalar('N', (given) =>
      check(/^(0|[1-9][0-9]{0,14})$/u.test(given) ? Number(given) : Number.NaN, given),
    ),
    json(value) {
      if (typeof value !== 'number') throw new BadValue('this is not a number', help);
      return check(value, String(value));
    },
  };
}

/** A number, or one word that stands for another. */
export function numberOr<Word extends string>(word: Word, numbers: Reader<number>): Reader<number | Word> {
  return {
    ...numbers,
    placeholder: `${numbers.placeholder}|${word}`,
    text: (texts) => (texts.length === 1 && texts[0] === word ? word : numbers.text(texts)),
    json: (value) => (value === word ? word : numbers.json(value)),
    show: (value) => (value === word ? word : numbers.show(Number(value))),
  };
}

/** One word of a closed list. */
export function oneOf<Word extends string>(words: readonly Word[]): Reader<Word> {
  return scalar(words.join('|'), (given) => {
    const found = words.find((word) => word === given);
    if (found === undefined)
      throw new BadValue(`\`${given}\` is not known`, `give one of: ${words.join(', ')}`);
    return found;
  });
}

/** A text of a JSON file. Throws BadValue. */
export function stringOf(value: unknown): string {
  if (typeof value !== 'string') throw new BadValue('this is not a text', 'give a text in quotes');
  return value;
}

/** An object of a JSON file with no keys but the `known` ones. Throws BadValue. */
export function fields(value: unknown, known: readonly string[]): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new BadValue('this is not an object', `give an object with ${known.join(', ')}`);
  }
  const unknown = Object.keys(value).filter((key) => !known.includes(key));
  if (unknown.length > 0)
    throw new BadValue(`\`${unknown.join('`, `')}\` is not known here`, `known: ${known.join(', ')}`);
  return { ...value };
}
