# What each value of a policy must look like: one checker per kind, value -> null (fine) or { message; help; }.
# Knows spelling only, not which rules make sense together (lib.nix) or what a name may reach (decide.ts). Pure builtins.
let
  inherit (builtins)
    attrNames concatStringsSep elem filter head isAttrs isInt isList isString map match replaceStrings
    stringLength substring toJSON toString typeOf;

  upper = [ "A" "B" "C" "D" "E" "F" "G" "H" "I" "J" "K" "L" "M" "N" "O" "P" "Q" "R" "S" "T" "U" "V" "W" "X" "Y" "Z" ];
  lower = [ "a" "b" "c" "d" "e" "f" "g" "h" "i" "j" "k" "l" "m" "n" "o" "p" "q" "r" "s" "t" "u" "v" "w" "x" "y" "z" ];

  /* A text on one line, control characters escaped: safe in an error and on a terminal. */
  oneLine = text:
    let escaped = toJSON text; size = stringLength escaped;
    in if size > 82 then "${substring 1 77 escaped}..." else substring 1 (size - 2) escaped;

  /* A value as an error shows it: texts and numbers themselves, the rest by kind. */
  shown = value:
    if isString value then "`${oneLine value}`"
    else if isInt value then "`${toString value}`"
    else if value == true || value == false then "`${if value then "true" else "false"}`"
    else if isList value then "a list"
    else if isAttrs value then "an attribute set"
    else "a ${typeOf value}";

  fault = message: help: { inherit message help; };

  /* The first row of a table that holds for a value, as a problem; null when none does. */
  firstFault = faults: value:
    let found = filter (row: row.when value) faults;
    in if found == [ ] then null else fault "${shown value} ${(head found).message}" (head found).help;

  only = when: message: help: value: if when value then null else fault "${shown value} ${message}" help;

  # std::regex recurses once per character: what is longer than any name or range matches nothing here.
  like = pattern: value: isString value && stringLength value <= 1000 && match pattern value != null;

  /* Lower case, one trailing dot removed: how two spellings of one host are compared (design.md 4.2.2). */
  canonical = text:
    let small = replaceStrings upper lower text; size = stringLength small;
    in if size > 1 && substring (size - 1) 1 small == "." then substring 0 (size - 1) small else small;

  label = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?";
  number = "(0[xX][0-9a-fA-F]*|[0-9]+)"; # what inet_aton or a URL parser would take for one

  # Order matters: the first row that holds explains best.
  hostFaults = [
    (row (host: host == "") "is empty" "give a host name, like \"api.example.com\"")
    (row (host: stringLength (canonical host) > 255) "is longer than 253 characters" "no host name is that long (RFC 1035)")
    (row (like ".*[[:cntrl:]].*") "has a control character" "use letters, digits, hyphens and dots")
    (row (like ".*[^ -~].*") "is not ASCII" "give the ACE spelling, which starts with \"xn--\" (`idn NAME` prints it)")
    (row (like ".*://.*") "has a scheme" "give the host alone: \"https://x.example/\" is \"x.example\"")
    (row (like "${number}(\\.${number})*\\.?(/.*)?|.*:.*:.*|\\[.*") "is an address"
      "give the host name; an internal address goes in `addresses` of the rule for that name")
    (row (like ".*/.*") "has a path" "a rule sees hosts only; give the host alone")
    (row (like ".*:.*") "has a port" "give the host alone and write ports = [ 8443 ]")
    (row (like "\\*") "would allow everything" "name the hosts, or \"*.example.com\" for the names below one")
    (row (like ".+\\*.*|\\*[^.].*|\\*\\.") "has a `*` in the wrong place" "only \"*.example.com\": whole labels left of a name")
    (row (like "[^.]+\\.?") "has no dot" "quote the whole host, like allow.\"api.example.com\"; a single label is no full name")
    (row (like ".*\\.${number}\\.?") "ends in a number"
      "the last label of a host name is never a number: it would be read as an address")
    (row (host: !(like "(${label}\\.|\\*\\.)(${label}\\.)*${label}" (canonical host))) "is not a host name"
      "use letters, digits, hyphens and dots; labels of 1 to 63, no hyphen at their ends")
    (row (host: stringLength (canonical host) > 253) "is longer than 253 characters" "no host name is that long (RFC 1035)")
  ];
  row = when: message: help: { inherit when message help; };

  isAddress = like "([0-9]{1,3}\\.){3}[0-9]{1,3}|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*";
in
rec {
  inherit canonical fault like oneLine shown;

  text = only (value: isString value && value != "" && !(like "[[:space:]]*" value) && !(like ".*[[:cntrl:]].*" value))
    "is not one line of text" "write a few words in quotes";

  host = value:
    if isString value then firstFault hostFaults value
    else fault "${shown value} is not a host name" "write it in quotes";

  /* What a service points at: a name, or one address; never a pattern or a range. */
  serviceHost = value:
    if isAddress value then null
    else if like ".*[*/].*" value
    then fault "${shown value} is not one host" "a service is one host and one port; make one service for each"
    else host value;

  /* The alias becomes a host name inside the sandbox. */
  alias = only (value: like label value && !(like number value) && value != "localhost") "is not a service name"
    "give one label of letters, digits and hyphens in lower case, like \"orders-db\"";
  group = only (like "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}") "is not a group name" "letters, digits, `_`, `.` and `-`; at most 64";

  port = only (value: isInt value && value >= 1 && value <= 65535) "is not a port" "give a number from 1 to 65535";
  ports = listOf port "a list of ports" "write [ 443 8443 ], or leave it out for 443 alone";
  addresses = listOf range "a list of address ranges" "write [ \"10.20.0.0/16\" ]";
  range = only (like "[0-9a-fA-F:.]+/[0-9]{1,3}") "is not an address range"
    "give a CIDR like \"10.20.0.0/16\"; one address is \"10.20.4.8/32\"";
  targets = listOf text "a list of targets" "write [ \"github.com\" \"github.com:22\" ]";
  protocol = oneOf [ "tls" "http" ];
  ech = oneOf [ "allow" ];
  date = only (like "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])") "is not a date" "write it like \"2027-03-01\"";

  bytes = only (value: isInt value && value >= 1) "is not a number of bytes" "give a whole number of at least 1";
  limits = value:
    let known = [ "downBytes" "upBytes" ]; in
    if !isAttrs value || value == { } then fault "${shown value} sets no limit" "write { upBytes = 5000000; }"
    else firstOf (name: if elem name known then bytes value.${name} else unknown known name) (attrNames value);

  oneOf = known: only (value: elem value known) "is not known"
    "give ${concatStringsSep " or " (map (word: "\"${word}\"") known)}";
  listOf = check: what: help: value:
    if isList value && value != [ ] then firstOf check value
    else fault "${if value == [ ] then "an empty list" else shown value} is not ${what}" help;

  unknown = known: name: fault "unknown key `${oneLine name}`" "known here: ${concatStringsSep ", " known}";

  /* The first problem that `check` finds in a list; null when all are fine. */
  firstOf = check: values:
    let found = filter (result: result != null) (map check values);
    in if found == [ ] then null else head found;
}
