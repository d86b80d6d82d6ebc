# The smallest policy: hosts with their reasons. `npx policy check api.github.com --policy examples/rules.nix`
{
  allow."api.anthropic.com" = "Claude";
  allow."api.github.com" = "pull requests";
}
