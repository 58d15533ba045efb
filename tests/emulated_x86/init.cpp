// SPDX-License-Identifier: Apache-2.0
// The first process of an emulated machine (emulate.py): runs /program with the lines of /arguments,
// says what became of it, and turns the machine off.
#include <cstdio>
#include <fstream>
#include <string>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <vector>

int main() {
  mkdir("/proc", 0755);
  mkdir("/tmp", 01777);
  mount("proc", "/proc", "proc", 0, nullptr);
  std::vector<std::string> words{"/program"};
  std::ifstream file("/arguments");
  for (std::string line; std::getline(file, line);) words.push_back(line);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  int status = 1 << 8;  // if there is no child
  while (child > 0 && waitpid(-1, &status, 0) != child) continue;
  std::printf("\nexit status %d\n",
              WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  std::fflush(stdout);
  tcdrain(STDOUT_FILENO);
  sleep(1);
  reboot(RB_POWER_OFF);
}
