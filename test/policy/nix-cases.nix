# What policy/lib.nix says about policies, as data: `says` lists every problem, `gives` is (part of) the document.
# Evaluates to the cases that do not hold, [ ] when all do; run by nix.test.ts and by `nix flake check`.
let
  inherit (builtins) attrNames concatMap filter getAttr intersectAttrs isFunction map tryEval;
  sallyport = import ../../policy/lib.nix;

  allow = value: { allow."api.example.com" = value; };
  host = name: { allow.${name} = "why"; };
  hostSays = name: words: { name = "host ${name}"; policy = host name; says = [ "allow.\"${name}\": `${name}` ${words}" ]; };
  service = value: { services.db = { host = "db.corp.example"; port = 5432; reason = "tests"; } // value; };

  cases = [
    # --- what can be written ---
    { name = "an empty policy denies everything"; policy = { }; gives = { version = 1; allow = [ ]; deny = [ ]; services = [ ]; tests = [ ]; }; }
    { name = "the usual case: host = reason"; policy = allow "pull requests";
      gives.allow = [ { id = "allow/api.example.com"; host = "api.example.com"; reason = "pull requests"; } ]; }
    { name = "the full case keeps every setting";
      policy.allow."*.Pkg.Example.org." = {
        reason = "artefacts"; ports = [ 8443 443 ]; protocol = "tls"; ech = "allow"; addresses = [ "fd00::/8" "10.20.0.0/16" ];
        owner = "platform"; reviewBy = "2027-03-01"; acceptRisk = "ours alone"; limits = { upBytes = 5000000; downBytes = 1; }; group = "build";
      };
      gives.allow = [ {
        id = "allow/*.pkg.example.org"; host = "*.pkg.example.org"; group = "build"; reason = "artefacts"; ports = [ 443 8443 ]; ech = "allow";
        addresses = [ "10.20.0.0/16" "fd00::/8" ]; owner = "platform"; reviewBy = "2027-03-01"; acceptRisk = "ours alone"; limits = { upBytes = 5000000; downBytes = 1; };
      } ]; }
    { name = "what equals its default is left out"; policy.allow = { "a.example.com" = { reason = "r"; ports = [ 443 ]; }; "b.example.com" = { reason = "r"; protocol = "http"; ports = [ 80 ]; }; };
      gives.allow = [ { id = "allow/a.example.com"; host = "a.example.com"; reason = "r"; } { id = "allow/b.example.com"; host = "b.example.com"; reason = "r"; protocol = "http"; } ]; }
    { name = "a rule of a group carries its name, and its reason when it has none";
      policy.groups.model-apis = { reason = "models"; allow = { "b.example.com" = { }; "a.example.com" = "A"; }; };
      gives.allow = [
        { id = "allow/a.example.com"; host = "a.example.com"; group = "model-apis"; reason = "A"; }
        { id = "allow/b.example.com"; host = "b.example.com"; group = "model-apis"; reason = "models"; }
      ]; }
    { name = "deny, services and tests";
      policy = service { host = "10.20.4.8"; } // { deny."Gist.GitHub.com" = "paste"; tests = { allow = [ "a.test:1" ]; deny = [ "b.test" ]; }; };
      gives = {
        deny = [ { id = "deny/gist.github.com"; host = "gist.github.com"; reason = "paste"; } ];
        services = [ { id = "service/db"; name = "db"; host = "10.20.4.8"; port = 5432; reason = "tests"; } ];
        tests = [ { target = "a.test:1"; expect = "allow"; } { target = "b.test"; expect = "deny"; } ];
      }; }
    { name = "a service of a group carries its name"; policy.groups.internal = { reason = "ours"; services.db = { host = "db.corp.example"; port = 5432; addresses = [ "10.20.4.8/32" ]; }; };
      gives.services = [ { id = "service/db"; name = "db"; host = "db.corp.example"; port = 5432; addresses = [ "10.20.4.8/32" ]; reason = "ours"; group = "internal"; } ]; }
    { name = "a function of the library can take shipped groups"; policy = sallyport: { groups = { inherit (sallyport.shipped.groups) packages; }; };
      gives.allow = [ { id = "allow/ghcr.io"; host = "ghcr.io"; group = "packages"; reason = "container images and packages"; } ]; }
    { name = "a rule of 253 characters and labels of 63"; policy = host "${label63}.${label63}.${label63}.${label61}"; gives.version = 1; }

    # --- names that are not just names in other languages (failures 68) ---
    { name = "prototype names are plain names"; policy.groups = { "__proto__".allow."constructor.example.com" = "c"; hasOwnProperty.allow."tostring.example.com" = "t"; };
      gives.allow = [
        { id = "allow/constructor.example.com"; host = "constructor.example.com"; group = "__proto__"; reason = "c"; }
        { id = "allow/tostring.example.com"; host = "tostring.example.com"; group = "hasOwnProperty"; reason = "t"; }
      ]; }
    { name = "__proto__ as a host is refused as a name, not lost"; policy = host "__proto__"; says = [ "allow.__proto__: `__proto__` has no dot" ]; }
    { name = "__proto__ as a service is refused as a name, not lost"; policy.services."__proto__" = { host = "a.example.com"; port = 1; reason = "r"; };
      says = [ "services.__proto__: `__proto__` is not a service name" ]; }
    { name = "a Nix magic name is a plain name"; policy = allow { outPath = "x"; reason = "why"; }; says = [ "allow.\"api.example.com\": unknown key `outPath`" ]; }

    # --- hosts ---
    (hostSays "" "is empty")
    (hostSays "https://x.example" "has a scheme")
    (hostSays "x.example:8443" "has a port")
    (hostSays "x.example/path" "has a path")
    (hostSays "bücher.example" "is not ASCII")
    (hostSays "10.0.0.1" "is an address")
    (hostSays "10.0.0.0/8" "is an address")
    (hostSays "2130706433" "is an address")
    (hostSays "0x7f.1" "is an address")
    { name = "0x in front of a name is a name"; policy = host "0xabc.de"; gives.version = 1; }
    (hostSays "::1" "is an address")
    (hostSays "fe80::/10" "is an address")
    (hostSays "[::1]" "is an address")
    (hostSays "x.example.0x1f" "ends in a number")
    (hostSays "x.example.12." "ends in a number")
    (hostSays "*" "would allow everything")
    (hostSays "a.*.example" "has a `*` in the wrong place")
    (hostSays "*evil.example" "has a `*` in the wrong place")
    (hostSays "a.example.*" "has a `*` in the wrong place")
    (hostSays "**.example" "has a `*` in the wrong place")
    (hostSays "*.*.example" "has a `*` in the wrong place")
    { name = "a wildcard over one label is judged by the loader"; policy.allow."*.internal" = { reason = "r"; acceptRisk = "ours"; }; gives.version = 1; }
    (hostSays "-a.example" "is not a host name")
    (hostSays "a-.example" "is not a host name")
    (hostSays "a..example" "is not a host name")
    (hostSays ".example.com" "is not a host name")
    (hostSays "a.example.com.." "is not a host name")
    (hostSays "under_score.example" "is not a host name")
    (hostSays "space .example" "is not a host name")
    { name = "a line feed cannot add lines to an error"; policy = host "new\nline.example"; says = [ "allow.\"new\\nline.example\": `new\\nline.example` has a control character" ]; }
    (hostSays "${label63}a.example" "is not a host name")
    { name = "a name of 254 characters"; policy = host "${label63}.${label63}.${label63}.${label61}a"; saysAny = "is longer than 253 characters"; }
    { name = "a name of 100,000 characters does not crash the evaluator"; policy = host (builtins.concatStringsSep "" (builtins.genList (_: "aaaaaaaaaa") 10000)); saysAny = "is longer than 253 characters"; }
    { name = "an unquoted host is one problem with the cure"; policy.allow.api.github.com = "why"; says = [ "allow.api: `api` has no dot" ]; }

    # --- values ---
    { name = "missing reason"; policy = allow { }; says = [ "allow.\"api.example.com\": the reason is missing" ]; }
    { name = "empty reason"; policy = allow " "; says = [ "allow.\"api.example.com\".reason: ` ` is not one line of text" ]; }
    { name = "a reason that is a path"; policy = allow ./nix-cases.nix; says = [ "allow.\"api.example.com\": a path is neither a reason nor settings" ]; }
    { name = "a list of reasons"; policy = allow [ "a" ]; says = [ "allow.\"api.example.com\": a list is neither a reason nor settings" ]; }
    { name = "all problems at once"; policy = allow { ports = [ 443 0 ]; protcol = "http"; };
      says = [ "allow.\"api.example.com\".ports: `0` is not a port" "allow.\"api.example.com\": unknown key `protcol`" "allow.\"api.example.com\": the reason is missing" ]; }
    { name = "one port is not a list"; policy = allow { reason = "r"; ports = 443; }; says = [ "allow.\"api.example.com\".ports: `443` is not a list of ports" ]; }
    { name = "no ports is not a list"; policy = allow { reason = "r"; ports = [ ]; }; says = [ "allow.\"api.example.com\".ports: an empty list is not a list of ports" ]; }
    { name = "port 65536"; policy = allow { reason = "r"; ports = [ 65536 ]; }; says = [ "allow.\"api.example.com\".ports: `65536` is not a port" ]; }
    { name = "port as text"; policy = allow { reason = "r"; ports = [ "443" ]; }; says = [ "allow.\"api.example.com\".ports: `443` is not a port" ]; }
    { name = "protocol tcp is for services"; policy = allow { reason = "r"; protocol = "tcp"; }; says = [ "allow.\"api.example.com\".protocol: `tcp` is not known" ]; }
    { name = "ech has one value"; policy = allow { reason = "r"; ech = true; }; says = [ "allow.\"api.example.com\".ech: `true` is not known" ]; }
    { name = "addresses are ranges"; policy = allow { reason = "r"; addresses = [ "10.0.0.1" ]; }; says = [ "allow.\"api.example.com\".addresses: `10.0.0.1` is not an address range" ]; }
    { name = "review date"; policy = allow { reason = "r"; reviewBy = "1.3.2027"; }; says = [ "allow.\"api.example.com\".reviewBy: `1.3.2027` is not a date" ]; }
    { name = "limits"; policy = allow { reason = "r"; limits = { upBytes = 0; }; }; says = [ "allow.\"api.example.com\".limits: `0` is not a number of bytes" ]; }
    { name = "unknown limit"; policy = allow { reason = "r"; limits = { up = 1; }; }; says = [ "allow.\"api.example.com\".limits: unknown key `up`" ]; }
    { name = "limits that are a number"; policy = allow { reason = "r"; limits = 5; }; says = [ "allow.\"api.example.com\".limits: `5` sets no limit" ]; }
    { name = "settings of deny"; policy.deny."a.example.com" = { reason = "r"; ports = [ 443 ]; }; says = [ "deny.\"a.example.com\": unknown key `ports`" ]; }
    { name = "the group twice"; policy.groups.a.allow."a.example.com" = { reason = "r"; group = "b"; }; says = [ "groups.a.allow.\"a.example.com\": the group is given twice" ]; }

    # --- services (features 13) ---
    { name = "a service is not a range"; policy = service { host = "10.0.0.0/8"; }; says = [ "services.db.host: `10.0.0.0/8` is not one host" ]; }
    { name = "a service is not a wildcard"; policy = service { host = "*.corp.example"; }; says = [ "services.db.host: `*.corp.example` is not one host" ]; }
    { name = "a service has one port"; policy = service { port = "1-9"; }; says = [ "services.db.port: `1-9` is not a port" ]; }
    { name = "a service needs host, port and reason"; policy.services.db = { };
      says = [ "services.db: the reason is missing" "services.db: `host` is missing" "services.db: `port` is missing" ]; }
    { name = "a service is not just a reason"; policy.services.db = "tests"; says = [ "services.db: `tests` is not a service" ]; }
    { name = "an alias is one lower-case label"; policy.services."DB.x" = { host = "a.example.com"; port = 1; reason = "r"; }; says = [ "services.\"DB.x\": `DB.x` is not a service name" ]; }

    { name = "a wildcard that no name can match"; policy = host "*.${label63}.${label63}.${label63}.${label61}"; saysAny = "is longer than 253 characters"; }
    { name = "an alias that is a number"; policy.services."0x7f" = { host = "a.example.com"; port = 1; reason = "r"; }; says = [ "services.\"0x7f\": `0x7f` is not a service name" ]; }
    { name = "an alias that hides the loopback"; policy.services.localhost = { host = "a.example.com"; port = 1; reason = "r"; }; says = [ "services.localhost: `localhost` is not a service name" ]; }

    # --- structure ---
    { name = "a group name"; policy.groups."model apis" = { }; says = [ "groups.\"model apis\": `model apis` is not a group name" ]; }
    { name = "a line feed in a reason cannot add lines to a log"; policy = allow "a\nb"; says = [ "allow.\"api.example.com\".reason: `a\\nb` is not one line of text" ]; }
    { name = "unknown top key"; policy = { alow = { }; }; says = [ "the policy: unknown key `alow`" ]; }
    { name = "a policy is a set"; policy = [ ]; says = [ "the policy: a list is not an attribute set" ]; }
    { name = "allow is a set"; policy.allow = [ "a.example.com" ]; says = [ "allow: a list is not an attribute set" ]; }
    { name = "a group is a set"; policy.groups.a = "x"; says = [ "groups.a: `x` is not an attribute set" ]; }
    { name = "unknown key in a group"; policy.groups.a.ports = [ 1 ]; says = [ "groups.a: unknown key `ports`" ]; }
    { name = "tests are lists of targets"; policy.tests.deny = "a.example.com"; says = [ "tests.deny: `a.example.com` is not a list of targets" ]; }
    { name = "one host in two groups, whatever its spelling";
      policy = { allow."A.example.com" = "r"; groups.a.allow."a.example.com." = "r"; groups.b.allow."a.example.com" = "r"; };
      says = [ "allow.\"A.example.com\" and groups.a.allow.\"a.example.com.\" and groups.b.allow.\"a.example.com\": the same host 3 times" ]; }
    { name = "one host denied twice"; policy.deny = { "a.example.com" = "r"; "A.example.com" = "r"; }; says = [ "deny.\"A.example.com\" and deny.\"a.example.com\": the same host 2 times" ]; }
    { name = "one service in two groups"; policy = service { } // { groups.a.services.db = { host = "a.example.com"; port = 1; reason = "r"; }; };
      says = [ "services.db and groups.a.services.db: the same service 2 times" ]; }
  ];
  label63 = builtins.concatStringsSep "" (builtins.genList (_: "a") 63);
  label61 = builtins.concatStringsSep "" (builtins.genList (_: "a") 61);

  said = case: map (problem: "${problem.at}: ${problem.message}") (sallyport.problems case.policy);
  ends = suffix: text: let n = builtins.stringLength text; m = builtins.stringLength suffix; in n >= m && builtins.substring (n - m) m text == suffix;
  document = case: let result = tryEval (builtins.deepSeq (sallyport.document case.policy) (sallyport.document case.policy)); in if result.success then result.value else null;

  holds = case:
    if case ? says then said case == case.says && document case == null && builtins.all (problem: problem.help != "") (sallyport.problems case.policy)
    else if case ? saysAny then builtins.any (ends case.saysAny) (said case) && document case == null
    else document case != null && intersectAttrs case.gives (document case) == case.gives;

  failure = case: { inherit (case) name; said = said case; document = document case; };
in
{ count = builtins.length cases; failures = map failure (filter (case: !(holds case)) cases); }
