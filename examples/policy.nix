# A policy for one project, on top of what is shipped: `npx policy validate --policy examples/policy.nix`, then
# `npx policy check artifacts.example.com --policy examples/policy.nix`. `npx policy show` prints what it compiles to.
#
# The file is a function of policy/lib.nix. It could be a plain attribute set too; the function gives `sallyport.shipped`.
sallyport: {
  groups = {
    # Two groups of the shipped allowlist. What is not taken is not allowed: this project needs neither ghcr.io nor Nix.
    inherit (sallyport.shipped.groups) model-apis github;

    # The usual case: a host and the reason why it is needed. Port 443, TLS, that exact name and nothing below it.
    packages.allow = {
      "packages.example.com" = "npm ci, from the mirror";
      "crates.example.com" = "crates of the native module";
    };

    # The full case. "*." stands for one or more labels; the addresses are required of every answer of the resolver,
    # and they alone may be private.
    build.allow."*.artifacts.example.com" = {
      reason = "build artefacts; each team has a name below this one";
      ports = [ 443 8443 ];
      addresses = [ "10.20.0.0/16" ];
      owner = "platform team";
      reviewBy = "2027-03-01";
      limits.upBytes = 50 * 1000 * 1000;
    };

    # Opaque TCP, each one host and one port. Inside the sandbox it has the service's name: `psql -h orders-db`.
    internal.services.orders-db = {
      host = "db.corp.example.com";
      port = 5432;
      addresses = [ "10.20.4.8/32" ];
      reason = "read replica for the integration tests";
    };
  };

  # Wins over every allow rule.
  deny."secrets.artifacts.example.com" = "signing keys; no agent needs them";

  # Run at every load and every reload: a change that breaks one of them is refused.
  tests = {
    allow = [
      "github.com"
      "web.artifacts.example.com:8443"
    ];
    deny = [
      "artifacts.example.com" # "*." is never the name itself
      "db.corp.example.com:5432" # reached by its alias only
      "ghcr.io"
      "gist.github.com"
      "github.com:22"
      "secrets.artifacts.example.com"
    ];
  };
}
