# Offers the policy library and the compiled allowlist to other flakes, and checks both.
# Has no inputs: it evaluates offline, with Nix 2.8 and no nixpkgs.
# It builds no package: Sallyport itself is installed with npm.
{
  description = "Sallyport: the one guarded way out of an AI agent's sandbox";

  outputs = { self }:
    let
      inherit (builtins) fromJSON listToAttrs map readFile toJSON;

      sallyport = import ./policy/lib.nix;
      egressDomains = sallyport.document sallyport.shipped;
      cases = import ./test/policy/nix-cases.nix;

      # A check is a fact about the evaluation; what is built is only its receipt.
      check = system: name: holds: message:
        if !holds then throw message
        else derivation {
          inherit system;
          name = "sallyport-${name}";
          builder = "/bin/sh";
          args = [ "-c" "echo ok > $out" ];
        };

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
