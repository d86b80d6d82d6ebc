# The Nix side of a policy: turns what people write (an attrset) into the document that the tools load, or says
# everything that is wrong with it. Pure builtins, works with Nix 2.8, needs no nixpkgs.
# It is not the authority: policy/load.ts judges every document again (host bits, public suffixes, contradictions).
#
#   {
#     allow."api.github.com" = "pull requests";                            # the usual case: host = reason
#     allow."*.pkg.example.org" = { reason = "build artefacts"; ports = [ 443 8443 ]; };
#     groups.model-apis.allow."api.anthropic.com" = "Claude";              # rules and services under one name
#     deny."gist.github.com" = "public paste";
#     services.orders-db = { host = "db.corp.example"; port = 5432; reason = "read replica"; };
#     tests = { allow = [ "api.github.com" ]; deny = [ "gist.github.com" "github.com:22" ]; };   # run at every load
#   }
#
# A file may also be a function of this library, to build on what is shipped:
#   sallyport: { groups = { inherit (sallyport.shipped.groups) model-apis github; }; }
let
  inherit (builtins)
    attrNames attrValues concatMap concatStringsSep elem filter groupBy hasAttr isAttrs isFunction isString length
    lessThan map removeAttrs sort toString;

  checks = import ./lib-checks.nix;
  inherit (checks) canonical fault like oneLine shown unknown;

  # What may be written where, and the checker of each value.
  topKeys = [ "allow" "deny" "groups" "services" "tests" ];
  groupKeys = [ "allow" "deny" "reason" "services" ];
  denyKeys = {
    inherit (checks) group;
    reason = checks.text;
    owner = checks.text;
    reviewBy = checks.date;
  };
  allowKeys = denyKeys // {
    inherit (checks) addresses ech limits ports protocol;
    acceptRisk = checks.text;
  };
  serviceKeys = {
    inherit (checks) addresses group port;
    host = checks.serviceHost;
    reason = checks.text;
    acceptRisk = checks.text;
  };
  testKeys = { allow = checks.targets; deny = checks.targets; };

  # --- places: `at` is an attribute as one would type it ---
  under = at: key: "${at}.${if like "[a-zA-Z_][a-zA-Z0-9_'-]*" key then key else "\"${oneLine key}\""}";
  problem = at: fault: [ { inherit at; inherit (fault) message help; } ];
  judge = check: at: value: let found = check value; in if found == null then [ ] else problem at found;
  shape = judge (value: if isAttrs value then null else fault "${shown value} is not an attribute set" "write { ... }");

  # --- entries: every rule or service, with the place where it stands ---
  part = set: name: if isAttrs (set.${name} or null) then set.${name} else { }; # a wrong kind is reported by `shape`
  within = place: set:
    map (key: place // { inherit key; at = under place.at key; value = set.${key}; }) (attrNames set);
  entries = kind: policy:
    let
      groups = part policy "groups";
      ofGroup = name: within {
        at = under (under "groups" name) kind;
        group = name;
        fallback = (part groups name).reason or null;
      } (part (part groups name) kind);
    in within { at = kind; group = null; fallback = null; } (part policy kind) ++ concatMap ofGroup (attrNames groups);

  settings = entry: if isString entry.value then { reason = entry.value; } else entry.value;
  reason = entry: (settings entry).reason or entry.fallback;
  group = entry: if entry.group != null then entry.group else (settings entry).group or null;

  # --- problems: every list below is empty when all is well ---
  keyProblems = known: at: set:
    concatMap (key:
      if hasAttr key known then judge known.${key} (under at key) set.${key}
      else problem at (unknown (attrNames known) key)) (attrNames set);

  valueProblems = known: entry:
    if !isString entry.value && !isAttrs entry.value
    then problem entry.at
      (fault "${shown entry.value} is neither a reason nor settings" "write ${entry.at} = \"why this is needed\"")
    else keyProblems known entry.at (settings entry)
      ++ (if reason entry != null then [ ]
          else problem entry.at (fault "the reason is missing" "add reason = \"why this is needed\""))
      ++ (if entry.group == null || !((settings entry) ? group) then [ ]
          else problem entry.at (fault "the group is given twice" "leave out `group`: the rule stands in one already"));

  # A key without a dot is reported alone: it is an unquoted host (allow.api.github.com = ...), and so is its value.
  ruleProblems = known: entry:
    judge checks.host entry.at entry.key
    ++ (if isAttrs entry.value && like "[^.]*" entry.key then [ ] else valueProblems known entry);

  serviceProblems = entry:
    let
      missing = filter (key: !(hasAttr key entry.value)) [ "host" "port" ];
      one = key: problem entry.at (fault "`${key}` is missing" "a service is one host and one port");
    in judge checks.alias entry.at entry.key
      ++ (if isAttrs entry.value then valueProblems serviceKeys entry ++ concatMap one missing
          else problem entry.at (fault "${shown entry.value} is not a service"
            "write { host = \"db.example.com\"; port = 5432; reason = \"why\"; }"));

  duplicates = what: found:
    let
      repeated = filter (same: length same > 1) (attrValues (groupBy (entry: canonical entry.key) found));
      one = same: problem (concatStringsSep " and " (map (entry: entry.at) same))
        (fault "the same ${what} ${toString (length same)} times" "keep one; `A.example.` and `a.example` are one name");
    in concatMap one repeated;

  groupProblems = name: value:
    let
      at = under "groups" name;
      one = key:
        if !(elem key groupKeys) then problem at (unknown groupKeys key)
        else if key == "reason" then judge checks.text (under at key) value.reason
        else shape (under at key) value.${key};
    in judge checks.group at name ++ shape at value ++ (if isAttrs value then concatMap one (attrNames value) else [ ]);

  topProblems = policy: key: if elem key topKeys then shape key policy.${key} else problem "the policy" (unknown topKeys key);

  problems = policy:
    if !isAttrs policy then shape "the policy" policy
    else concatMap (topProblems policy) (attrNames policy)
      ++ concatMap (name: groupProblems name policy.groups.${name}) (attrNames (part policy "groups"))
      ++ concatMap (ruleProblems allowKeys) (entries "allow" policy)
      ++ concatMap (ruleProblems denyKeys) (entries "deny" policy)
      ++ concatMap serviceProblems (entries "services" policy)
      ++ keyProblems testKeys "tests" (part policy "tests")
      ++ duplicates "host" (entries "allow" policy)
      ++ duplicates "host" (entries "deny" policy)
      ++ duplicates "service" (entries "services" policy);

  report = found: concatStringsSep "\n"
    ([ "the policy has ${toString (length found)} ${if length found == 1 then "problem" else "problems"}" ]
      ++ map (p: "${p.at}: ${p.message}\n  help: ${p.help}") found);

  # --- the document, in its canonical form (policy/document.ts): defaults left out, every list in one order ---
  ordered = key: sort (a: b: a.${key} < b.${key});
  without = set: names: removeAttrs set (filter (name: names.${name}) (attrNames names));

  rest = entry:
    let
      given = settings entry;
      usual = [ (if given.protocol or "tls" == "http" then 80 else 443) ];
    in without given { ports = given.ports or usual == usual; protocol = given.protocol or "tls" == "tls"; }
      // { reason = reason entry; }
      // (if group entry == null then { } else { group = group entry; })
      // (if given.ports or usual == usual then { } else { ports = sort lessThan given.ports; })
      // (if given ? addresses then { addresses = sort lessThan given.addresses; } else { });

  rule = kind: entry: rest entry // { host = canonical entry.key; id = "${kind}/${canonical entry.key}"; };
  service = entry: rest entry // { name = entry.key; host = canonical entry.value.host; id = "service/${entry.key}"; };
  test = expect: target: { inherit target expect; };

  compile = policy: {
    version = 1;
    allow = ordered "host" (map (rule "allow") (entries "allow" policy));
    deny = ordered "host" (map (rule "deny") (entries "deny" policy));
    services = ordered "name" (map service (entries "services" policy));
    tests = ordered "target" (map (test "allow") (policy.tests.allow or [ ]) ++ map (test "deny") (policy.tests.deny or [ ]));
  };

  authored = policy: if isFunction policy then policy self else policy;
  self = {
    /* The allowlist that comes with Sallyport, as written; take groups from it by name. */
    shipped = import ./default.nix;
    /* Everything wrong with a policy, as [ { at; message; help; } ]; empty when it has a document. */
    problems = policy: problems (authored policy);
    /* The document of a policy (an attrset, or a function of this library); throws all problems at once. */
    document = policy:
      let found = problems (authored policy);
      in if found == [ ] then compile (authored policy) else throw (report found);
  };
in
self
