# Offers the policy library and the compiled allowlist to other flakes, and checks both.
# Has no inputs: it evaluates offline, with Nix 2.8 and no nixpkgs.
# It builds no package: Sallyport itself is installed with npm.
{
  description = "Sallyport: the one guarded way out of an AI agent's sandbox";

  outputs = { self }:
    let
      inherit (builtins) fromJSON hashFile listToAttrs map path readFile seq toJSON;

      sallyport = import ./policy/lib.nix;
      egressDomains = sallyport.document sallyport.shipped;
      cases = import ./test/policy/nix-cases.nix;

      # A check is a fact about the evaluation. Its derivation is the compiled policy itself, known by its hash and put into the store while it is
      # evaluated: nothing is left to build, so it needs no builder, no build users and no network.
      check = system: name: holds: message:
        let
          file = path { path = ./policy/default.json; name = "sallyport-${name}"; recursive = false; };
        in
        if !holds then throw message
        else seq file (derivation {
          inherit system;
          name = "sallyport-${name}";
          builder = "/bin/sh";
          outputHashMode = "flat";
          outputHashAlgo = "sha256";
          outputHash = hashFile "sha256" ./policy/default.json;
        });

      checks = system: {
        default-json = check system "default-json" (fromJSON (readFile ./policy/default.json) == egressDomains)
          "policy/default.json is not what policy/default.nix compiles to; default.nix begins with the command that writes it";
        lib = check system "lib" (cases.failures == [ ]) "policy/lib.nix: cases do not hold: ${toJSON cases.failures}";
      };
    in
    {
      /* `document` and `problems` for a policy of yours, `shipped` as written, `egressDomains` as compiled. */
      lib = sallyport // { inherit egressDomains; };
      checks = listToAttrs (map (system: { name = system; value = checks system; }) [ "x86_64-linux" "aarch64-linux" ]);
    };
}
