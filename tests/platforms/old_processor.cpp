// SPDX-License-Identifier: Apache-2.0
// Stands for the tool in a test of examples/tool/processor.cpp: compiled for a newer processor.
int main() { return 0; }
