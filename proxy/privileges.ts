// Gives up root once every socket is open. One way only; a step that fails ends the start.

/** Becomes `uid:gid` with no other groups. Throws Error with help when it cannot; does nothing for null. */
export function dropPrivileges(user: string | null): void {
  if (user === null) return;
  const { uid, gid } = parseUser(user);
  if (process.getuid?.() !== 0) {
    throw new Error(
      `cannot become \`${user}\`: this process is not root\nhelp: leave --user out, or start as root`,
    );
  }
  process.setgroups?.([]);
  process.setgid?.(gid);
  process.setuid?.(uid);
  if (process.getuid?.() !== uid || process.getgid?.() !== gid) throw new Error(`cannot become \`${user}\``);
}

function parseUser(user: string): { uid: number; gid: number } {
  const [, uid, gid] = /^(\d{1,9}):(\d{1,9})$/u.exec(user) ?? [];
  if (uid === undefined || gid === undefined || Number(uid) === 0 || Number(gid) === 0) {
    throw new Error(
      `\`${user}\` is not a user to become\nhelp: give UID:GID in numbers, neither of them 0, such as 65534:65534`,
    );
  }
  return { uid: Number(uid), gid: Number(gid) };
}
