# The allowlist that is used when no other policy is given: what a coding agent needs for its main job, and no more.
# Its compiled form is default.json, which needs no nix; a test and `nix flake check` fail when the two differ. To write it:
#   npx policy show --policy policy/default.nix | sed 1d > policy/default.json
{
  groups.model-apis.allow = {
    "api.anthropic.com" = "Claude: model calls";
    "api.openai.com" = "Codex: model calls";
    "generativelanguage.googleapis.com" = "Gemini: model calls";
  };

  groups.github.allow = {
    "github.com" = "git clone and push over HTTPS";
    "api.github.com" = "pull requests and issues";
    "objects.githubusercontent.com" = "release files and LFS objects of repositories";
  };

  groups.packages.allow."ghcr.io" = "container images and packages";

  groups.nix.allow."cache.nixos.org" = "substitutes for nix develop";

  # Named internal services of a project go here: one host, one port, one reason each (see examples/policy.nix).
  groups.internal-services = {
    reason = "services of this project";
    services = { };
  };

  tests = {
    allow = [
      "api.anthropic.com"
      "api.github.com"
      "cache.nixos.org"
      "github.com"
    ];
    deny = [
      "127.0.0.1"
      "169.254.169.254:80"
      "cache.nixos.org:80"
      "gist.github.com"
      "github.com:22"
      "raw.githubusercontent.com"
    ];
  };
}
