import { describe, expect, test } from "vitest";
import { accountNeeds, groupName, ownerName, parseGroup, parsePasswd, parseShadow } from "./accounts.ts";

describe("passwd, group and shadow", () => {
  test("take what is well formed, the first of a name, and leave the rest", () => {
    const users = parsePasswd("root:x:0:0:root:/root:/bin/bash\n# a comment\nbroken\nx:x:nan:0:::\nroot:x:5:5:::\nanna:x:1000:1000:Anna,,,:/home/anna:/bin/sh\n+::::::\n");
    expect([...users.keys()]).toEqual(["root", "anna"]);
    expect(users.get("root")?.uid).toBe(0);
    expect(users.get("anna")).toEqual({ name: "anna", uid: 1000, gid: 1000, comment: "Anna,,,", home: "/home/anna", shell: "/bin/sh" });
  });

  test("list the members of groups", () => {
    const groups = parseGroup("adm:x:4:anna,berta\nempty:x:7:\n");
    expect(groups.get("adm")?.members).toEqual(["anna", "berta"]);
    expect(groups.get("empty")?.members).toEqual([]);
  });

  test("give the password field", () => {
    expect(parseShadow("root:*:19000:0:99999:7:::\nanna:!$y$j9T$a$b:1:0:9:7:::\n").get("anna")).toBe("!$y$j9T$a$b");
  });
});

test("a number without a name is shown as the number", () => {
  const accounts = { users: parsePasswd("root:x:0:0::/:/bin/sh"), groups: parseGroup("root:x:0:") };
  expect([ownerName(accounts, 0), ownerName(accounts, 77), groupName(accounts, 0), groupName(accounts, 78)]).toEqual(["root", "77", "root", "78"]);
});

test("what belongs to root waits for nobody", () => {
  expect(accountNeeds("root", "root")).toEqual([]);
  expect(accountNeeds("anna", "devs")).toEqual(["users/anna", "groups/devs"]);
});
