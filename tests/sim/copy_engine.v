// A copy engine with the ports of the accelerator, small enough to compile in seconds; for the tests of the simulation.
// What is read goes to the write channel in the same cycle, so that inputs reach outputs without a register.
//
// Registers: 0 source, 4 destination, 8 bursts, 12 beats in a burst - 1, 16 flags (1 read only, 2 wlast is missing,
// 4 a waiting address changes), 20 write strobes, 24 start; reads: 28 worst response, 32 cycles from start to the end,
// 36 cycles from start to the first beat, 40 cycles from the first beat to the last; from 64 on: SLVERR.
module top #(parameter BYTES = 16) (
    input clk, input rst,
    input [7:0] s_axi_ctrl_awaddr, input [2:0] s_axi_ctrl_awprot, input s_axi_ctrl_awvalid,
    output s_axi_ctrl_awready, input [31:0] s_axi_ctrl_wdata, input [3:0] s_axi_ctrl_wstrb,
    input s_axi_ctrl_wvalid, output s_axi_ctrl_wready, output [1:0] s_axi_ctrl_bresp,
    output reg s_axi_ctrl_bvalid, input s_axi_ctrl_bready,
    input [7:0] s_axi_ctrl_araddr, input [2:0] s_axi_ctrl_arprot, input s_axi_ctrl_arvalid,
    output s_axi_ctrl_arready, output reg [31:0] s_axi_ctrl_rdata, output reg [1:0] s_axi_ctrl_rresp,
    output reg s_axi_ctrl_rvalid, input s_axi_ctrl_rready,
    output m_axi_mem_awid, output [31:0] m_axi_mem_awaddr, output [7:0] m_axi_mem_awlen,
    output [2:0] m_axi_mem_awsize, output [1:0] m_axi_mem_awburst, output m_axi_mem_awlock,
    output [3:0] m_axi_mem_awcache, output [2:0] m_axi_mem_awprot, output [3:0] m_axi_mem_awqos,
    output m_axi_mem_awvalid, input m_axi_mem_awready,
    output [8*BYTES-1:0] m_axi_mem_wdata, output [BYTES-1:0] m_axi_mem_wstrb, output m_axi_mem_wlast,
    output m_axi_mem_wvalid, input m_axi_mem_wready,
    input m_axi_mem_bid, input [1:0] m_axi_mem_bresp, input m_axi_mem_bvalid, output m_axi_mem_bready,
    output m_axi_mem_arid, output [31:0] m_axi_mem_araddr, output [7:0] m_axi_mem_arlen,
    output [2:0] m_axi_mem_arsize, output [1:0] m_axi_mem_arburst, output m_axi_mem_arlock,
    output [3:0] m_axi_mem_arcache, output [2:0] m_axi_mem_arprot, output [3:0] m_axi_mem_arqos,
    output m_axi_mem_arvalid, input m_axi_mem_arready,
    input m_axi_mem_rid, input [8*BYTES-1:0] m_axi_mem_rdata, input [1:0] m_axi_mem_rresp,
    input m_axi_mem_rlast, input m_axi_mem_rvalid, output m_axi_mem_rready,
    output reg interrupt
);
    reg [31:0] source, destination, bursts, flags, strobes;
    reg [7:0] length;
    reg [31:0] reads_left, writes_left, ends_left, read_address, write_address;
    reg [31:0] cycles, until_first, since_first;
    reg [1:0] worst;
    reg running, seen;

    assign {m_axi_mem_awid, m_axi_mem_awlock, m_axi_mem_awcache, m_axi_mem_awprot, m_axi_mem_awqos} = 13'd0;
    assign {m_axi_mem_arid, m_axi_mem_arlock, m_axi_mem_arcache, m_axi_mem_arprot, m_axi_mem_arqos} = 13'd0;
    assign {m_axi_mem_awburst, m_axi_mem_arburst} = {2'd1, 2'd1};
    assign m_axi_mem_awsize = $clog2(BYTES);
    assign m_axi_mem_arsize = $clog2(BYTES);
    assign m_axi_mem_awlen = length;
    assign m_axi_mem_arlen = length;
    assign m_axi_mem_araddr = read_address ^ (flags[2] && cycles[0] ? BYTES : 0);
    assign m_axi_mem_awaddr = write_address;
    assign m_axi_mem_arvalid = reads_left != 0;
    assign m_axi_mem_awvalid = writes_left != 0;
    assign m_axi_mem_wdata = m_axi_mem_rdata;
    assign m_axi_mem_wstrb = strobes[BYTES-1:0];
    assign m_axi_mem_wlast = m_axi_mem_rlast && !flags[1];
    assign m_axi_mem_wvalid = m_axi_mem_rvalid && !flags[0];
    assign m_axi_mem_rready = flags[0] || m_axi_mem_wready;
    assign m_axi_mem_bready = 1;

    wire write = s_axi_ctrl_awvalid && s_axi_ctrl_wvalid && !s_axi_ctrl_bvalid;
    assign s_axi_ctrl_awready = write;
    assign s_axi_ctrl_wready = write;
    assign s_axi_ctrl_bresp = 0;
    assign s_axi_ctrl_arready = !s_axi_ctrl_rvalid;

    wire beat = m_axi_mem_rvalid && m_axi_mem_rready;
    wire answer = flags[0] ? beat && m_axi_mem_rlast : m_axi_mem_bvalid;

    always @(posedge clk) begin
        cycles <= cycles + 1;
        if (!seen && !beat) until_first <= until_first + 1;
        if (seen && running) since_first <= since_first + 1;
        if (beat) seen <= 1;
        if (beat && m_axi_mem_rresp > worst) worst <= m_axi_mem_rresp;
        if (m_axi_mem_bvalid && m_axi_mem_bresp > worst) worst <= m_axi_mem_bresp;
        if (m_axi_mem_arvalid && m_axi_mem_arready) begin
            reads_left <= reads_left - 1;
            read_address <= read_address + (length + 32'd1) * BYTES;
        end
        if (m_axi_mem_awvalid && m_axi_mem_awready) begin
            writes_left <= writes_left - 1;
            write_address <= write_address + (length + 32'd1) * BYTES;
        end
        if (answer) begin
            ends_left <= ends_left - 1;
            if (ends_left == 1) begin
                running <= 0;
                interrupt <= 1;
            end
        end
        if (s_axi_ctrl_bready) s_axi_ctrl_bvalid <= 0;
        if (write) begin
            s_axi_ctrl_bvalid <= 1;
            case (s_axi_ctrl_awaddr)
                0: source <= s_axi_ctrl_wdata;
                4: destination <= s_axi_ctrl_wdata;
                8: bursts <= s_axi_ctrl_wdata;
                12: length <= s_axi_ctrl_wdata[7:0];
                16: flags <= s_axi_ctrl_wdata;
                20: strobes <= s_axi_ctrl_wdata;
                24: begin
                    {running, seen, interrupt} <= 3'b100;
                    {cycles, until_first, since_first, worst} <= 0;
                    read_address <= source;
                    write_address <= destination;
                    reads_left <= bursts;
                    writes_left <= flags[0] ? 0 : bursts;
                    ends_left <= bursts;
                end
                default: ;
            endcase
        end
        if (s_axi_ctrl_rready) s_axi_ctrl_rvalid <= 0;
        if (s_axi_ctrl_arvalid && s_axi_ctrl_arready) begin
            s_axi_ctrl_rvalid <= s_axi_ctrl_araddr != 48;  // nobody answers there
            s_axi_ctrl_rresp <= s_axi_ctrl_araddr >= 64 ? 2 : 0;
            case (s_axi_ctrl_araddr)
                0: s_axi_ctrl_rdata <= source;
                28: s_axi_ctrl_rdata <= worst;
                32: s_axi_ctrl_rdata <= cycles;
                36: s_axi_ctrl_rdata <= until_first;
                40: s_axi_ctrl_rdata <= since_first;
                default: s_axi_ctrl_rdata <= 0;
            endcase
        end
        if (rst) begin
            {running, seen, interrupt, s_axi_ctrl_bvalid, s_axi_ctrl_rvalid} <= 0;
            {reads_left, writes_left, ends_left, flags} <= 0;
        end
    end
endmodule
